"""One server and one browser for all tests of the page; each test has tabs of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.apps.chat.page.page_server import PageServer, page_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
SCREENSHOTS = Path(__file__).parents[5] / "build" / "screenshots"
HARMLESS = ("401 (Unauthorized)", "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "400 (Bad Request)")
"""What the browser notes on its console about requests that are meant to fail."""

OpenTab = Callable[..., "Page"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"no chromium at {CHROMIUM}: apt-get install chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """The page, with the models tiny-llama3 and poet, its adapter."""
    with page_server(tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture
def open_tab(browser: Browser, server: PageServer) -> Iterator[OpenTab]:
    """Opens tabs that share a profile. A script error or anything against the security policy fails the test."""
    contexts: list[Any] = []
    problems: list[str] = []

    def note(message: Any) -> None:
        if message.type == "error" and not any(words in message.text for words in HARMLESS):
            problems.append(message.text)

    def open_tab(address: str = "/", *, url: str = "", **options: Any) -> Page:
        if not contexts or options:
            options = {"viewport": {"width": 1280, "height": 800}, "permissions": ["clipboard-read"]} | options
            contexts.append(browser.new_context(**options))
            contexts[-1].set_default_timeout(10_000)
        tab: Page = contexts[-1].new_page()
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("console", note)
        tab.goto((url or server.url) + address)
        return tab

    yield open_tab
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def tab(open_tab: OpenTab) -> Page:
    """A tab with a new chat."""
    opened = open_tab()
    opened.wait_for_selector(".welcome")
    return opened


def send(tab: Page, text: str, *, wait: bool = True) -> None:
    """Send a user turn and, if wanted, wait for the end of its response."""
    before = tab.locator(".message.user").count()
    tab.get_by_label("Message", exact=True).fill(text)
    tab.get_by_label("Message", exact=True).press("Enter")
    tab.locator(".message.user").nth(before).wait_for()
    if wait:
        tab.locator(".message").last.and_(tab.locator(".assistant[data-state=complete]")).wait_for()


def shot(tab: Page, name: str) -> None:
    """A picture for people to look at, under build/screenshots."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=str(SCREENSHOTS / f"{name}.png"))
