"""One server for all tests of the page, one browser for those of a file; each test has tabs of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.apps.chat.page.page_server import PageServer, page_server
from tests.apps.chat.page.real_server import real_server

CHROMIUM = Path("/usr/bin/chromium")
SCREENSHOTS = Path(__file__).parents[5] / "build" / "screenshots"
HARMLESS = ("401 (Unauthorized)", "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "400 (Bad Request)")
"""What the browser notes on its console about requests that are meant to fail."""

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


OpenTab = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium. Not for the whole session: while it runs, this thread has an event loop of playwright's, and
    tests that call `asyncio.run` would fail."""
    if not CHROMIUM.exists():
        pytest.skip(f"no chromium at {CHROMIUM}: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """The page, with the models tiny-llama3 and poet, its adapter."""
    with page_server(tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """The page with tiny-llama3, weights included."""
    with real_server(tmp_path_factory.mktemp("real")) as running:
        yield running


@pytest.fixture(scope="module")
def profile(browser: Browser) -> Iterator[BrowserContext]:
    """A browser's profile: what it has in its cache stays for the next test, which saves a second for each."""
    context = new_profile(browser)
    yield context
    context.close()


def new_profile(browser: Browser, **options: Any) -> BrowserContext:
    """A profile of a desktop, or as the options say."""
    options = {"viewport": {"width": 1280, "height": 800}, "permissions": ["clipboard-read"]} | options
    context = browser.new_context(**options)
    context.set_default_timeout(10_000)
    return context


@pytest.fixture
def open_tab(browser: Browser, profile: BrowserContext, server: PageServer) -> Iterator[OpenTab]:
    """Opens tabs of one profile, or with options of a new one.

    A script error fails the test, and so does anything against the security policy.
    """
    tabs: list[Page] = []
    problems: list[str] = []

    def note(message: Any) -> None:
        if message.type == "error" and not any(words in message.text for words in HARMLESS):
            problems.append(message.text)

    def open_tab(address: str = "/", *, url: str = "", **options: Any) -> Page:
        tab = (new_profile(browser, **options) if options else profile).new_page()
        tabs.append(tab)
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("console", note)
        tab.on("response", lambda answer: answer.status == 422 and problems.append(f"{answer.url}: {answer.text()}"))
        tab.goto((url or server.url) + address)
        return tab

    yield open_tab
    if profile.pages:
        profile.pages[0].evaluate("localStorage.clear()")
    for tab in tabs:
        if tab.context is not profile:
            tab.context.close()
        elif not tab.is_closed():
            tab.close()
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
    tab.get_by_role("textbox", name="Message").fill(text)
    tab.get_by_role("textbox", name="Message").press("Enter")
    tab.locator(".message.user").nth(before).wait_for()
    if wait:
        tab.locator(".message").last.and_(tab.locator(".assistant[data-state=complete]")).wait_for()


def shot(tab: Page, name: str) -> None:
    """A picture for people to look at, under build/screenshots."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.evaluate(
        "Promise.all(document.getAnimations().filter((each) => each.effect.getTiming().iterations < 100)"
        ".map((each) => each.finished.catch(() => {}))).then(() => {})"
    )
    tab.screenshot(path=str(SCREENSHOTS / f"{name}.png"))
