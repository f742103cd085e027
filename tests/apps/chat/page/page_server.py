"""The page on a service without a model, served on a free port by a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from mlx_suite_apps.chat.api.app import create_app
from mlx_suite_apps.chat.api.security import secured
from mlx_suite_apps.chat.api.settings import ServerSettings
from mlx_suite_apps.chat.store.store import Store
from tests.apps.chat.page.talking_service import TalkingService, served

STARTS = 2000
"""How often to look whether the server has started; 10 ms each."""


class PageServer:
    """A server that can be ended and started again on its port, with the same conversations."""

    def __init__(self, folder: Path, key: str | None = None) -> None:
        self.file, self.key, self.port = folder / "chat.sqlite3", key, 0
        self.service = TalkingService(served("tiny-llama3"), served("poet", base="tiny-llama3"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.store = Store(self.file)
        settings = ServerSettings(api_key=self.key)
        service: Any = self.service
        config = uvicorn.Config(
            secured(create_app(service, self.store, settings), settings),
            host="127.0.0.1",
            port=self.port,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        for _ in range(STARTS):
            if self._server.started:
                break
            time.sleep(0.01)
        assert self._server.started, "the server did not start"
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def end(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=20)
        self.store.close()


@contextmanager
def page_server(folder: Path, key: str | None = None) -> Iterator[PageServer]:
    """A running server."""
    server = PageServer(folder, key)
    server.start()
    try:
        yield server
    finally:
        server.end()


def serve_until_killed(folder: str) -> None:
    """Serve in this process, and print the address."""
    server = PageServer(Path(folder))
    server.start()
    print(server.url, flush=True)
    threading.Event().wait()
