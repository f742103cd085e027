"""The page on the real service, for tests of its routes."""

from collections.abc import Iterator

import httpx
import pytest

from tests.apps.chat.page.page_server import PageServer
from tests.apps.chat.page.real_server import real_server


@pytest.fixture(scope="module")
def real_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """A running server with tiny-llama3."""
    with real_server(tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture
def client(real_page: PageServer) -> Iterator[httpx.Client]:
    """A client of the page's routes."""
    with httpx.Client(base_url=f"{real_page.url}/page", timeout=60) as client:
        yield client
