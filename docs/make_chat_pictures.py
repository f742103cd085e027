"""Take the pictures of the chat page, docs/images/chat*.png, from a server with the shipped models:

python docs/make_chat_pictures.py

It needs Debian's chromium and the extra `dev`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, expect, sync_playwright

IMAGES = Path(__file__).parent / "images"
CHROMIUM = "/usr/bin/chromium"
GREEDY = "localStorage.setItem('new-chat', JSON.stringify({ settings: { temperature: 0 } }))"
CHATS = (
    ("What is 7 plus 5?",),
    ("Name two drinks.",),
    ("Adam is 16. Ines is 10. Which of them is younger?",),
    ("Which month comes before May?", "Which month comes after June?", "Is a potato a vegetable?"),
)


@contextmanager
def server() -> Iterator[str]:
    """The address of a server with both shipped models, with a temporary store of conversations."""
    command = [sys.executable, "-m", "mlx_suite_apps.cli.main", "serve", "tiny-llama3", "tiny-gemma2", "--port", "0"]
    with TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_DATA_HOME": folder}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert process.stderr is not None
        try:
            addresses = (re.search(r"http://\S+", line) for line in process.stderr)
            yield next(found[0] for found in addresses if found)
        finally:
            process.terminate()
            process.wait(30)


def converse(page: Page, turns: tuple[str, ...]) -> None:
    """A new chat with these user turns."""
    page.keyboard.press("Control+Shift+O")
    for number, turn in enumerate(turns, start=1):
        page.get_by_label("Message", exact=True).fill(turn)
        page.get_by_label("Message", exact=True).press("Enter")
        expect(page.locator(".assistant")).to_have_count(number)
        expect(page.locator(".assistant").last).to_have_attribute("data-state", "complete")
    page.locator("body").click(position={"x": 700, "y": 20})


def main() -> None:
    """Take all pictures."""
    with server() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 760}, device_scale_factor=1.5)
        page.goto(url)
        page.evaluate(GREEDY)
        page.reload()
        for turns in CHATS:
            converse(page, turns)
        page.screenshot(path=IMAGES / "chat.png")
        last = page.locator(".assistant").first
        last.hover()
        last.get_by_role("button", name="Tokens").click()
        page.locator(".token").nth(2).click()
        expect(page.locator(".alternative").first).to_be_visible()
        page.wait_for_timeout(500)  # until the card has faded in
        page.screenshot(path=IMAGES / "chat-tokens.png")
        page.keyboard.press("Escape")
        page.get_by_role("link", name="Compare").click()
        page.get_by_label("Message to both columns").fill("Which month comes before May?")
        page.get_by_label("Message to both columns").press("Enter")
        for name in ("Column A", "Column B"):
            expect(page.get_by_label(name).locator(".assistant")).to_have_attribute("data-state", "complete")
        page.screenshot(path=IMAGES / "chat-compare.png")
        browser.close()


if __name__ == "__main__":
    main()
