"""A server for the tests of clients: uvicorn in a thread, on a free port of this machine."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from mlx_suite_apps.chat.api.app import create_app
from mlx_suite_apps.chat.api.security import secured
from mlx_suite_apps.chat.api.settings import ServerSettings

STARTS = 1000
"""How often to look whether the server has started; 10 ms each."""


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """The address of a server that answers with `app`, until the block ends."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for _ in range(STARTS):
        if server.started:
            break
        time.sleep(0.01)
    assert server.started, "the server did not start"
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def secured_app(service: object, settings: ServerSettings | None = None) -> ASGIApp:
    """The application as the command line serves it."""
    settings = settings or ServerSettings()
    return secured(create_app(service, settings=settings), settings)  # type: ignore[arg-type]
