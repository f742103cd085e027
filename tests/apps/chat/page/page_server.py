"""The page on a scripted service, served on a free port by a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from mlx_suite_apps.chat.api.app import create_app
from mlx_suite_apps.chat.page import page
from mlx_suite_apps.chat.store.store import Store
from tests.apps.chat.page.scripted import ScriptedService, served

POLICY = (
    "default-src 'self'; img-src 'self' data:; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Guard:
    """The content security policy for every response, and a key for everything but the page's own files."""

    def __init__(self, app: Any, key: str) -> None:
        self.app, self.key = app, key

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        is_open = scope["type"] != "http" or scope["path"] == "/" or scope["path"].startswith("/page/static/")
        if self.key and not is_open and (b"authorization", f"Bearer {self.key}".encode()) not in scope["headers"]:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})
            return
        await self.app(scope, receive, with_policy)


def page_app(service: ScriptedService, store: Store, key: str = "") -> FastAPI:
    """The application with the page."""
    app = create_app(service, store)
    app.include_router(page.router)
    app.add_middleware(Guard, key=key)
    return app


class PageServer:
    """A server that can be ended and started again on its port."""

    def __init__(self, folder: Path, key: str = "") -> None:
        self.file, self.key, self.port = folder / "chat.sqlite3", key, 0
        self.service = ScriptedService(served("tiny-llama3"), served("poet", base="tiny-llama3"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.store = Store(self.file)
        config = uvicorn.Config(
            page_app(self.service, self.store, self.key),
            host="127.0.0.1",
            port=self.port,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < deadline and self._thread.is_alive(), "the server does not start"
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def end(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=20)
        self.store.close()


@contextmanager
def page_server(folder: Path, key: str = "") -> Iterator[PageServer]:
    """A running server."""
    server = PageServer(folder, key)
    server.start()
    try:
        yield server
    finally:
        server.end()
