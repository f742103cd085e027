"""The page on the real service with tiny-llama3, served on a free port."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.apps.chat.page.page_server import PageServer
from tests.serving.conftest import make_service

NAME = "tiny-llama3"


@contextmanager
def real_server(folder: Path) -> Iterator[PageServer]:
    """A running server."""
    server = PageServer(folder)
    service: Any = make_service(NAME)
    server.service = service
    server.start()
    try:
        yield server
    finally:
        server.end()
        service.worker.close()
