"""The server is killed in the middle of a response: what the page showed as saved is there afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from mlx_suite_apps.chat.store.store import Store
from tests.apps.chat.page.browser.conftest import OpenTab, send, shot

ROOT = Path(__file__).parents[5]
STORY = " ".join(f"word{number}" for number in range(400))
SCRIPT = (
    "from tests.apps.chat.page import page_server, talking_service\n"
    f"talking_service.TEXTS['slow epic'] = {STORY!r}\n"
    "page_server.serve_until_killed({folder!r})\n"
)


@contextmanager
def server_process(folder: Path) -> Iterator[tuple[str, int]]:
    """Address and process id of a server in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(folder=str(folder))], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process.pid
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_nothing_that_was_shown_as_saved_is_missing_after_kill_9(open_tab: OpenTab, tmp_path: Path) -> None:
    with server_process(tmp_path) as (url, pid):
        tab = open_tab(url=url)
        send(tab, "slow epic", wait=False)
        reply = tab.locator(".assistant")
        expect(reply.locator(".answer")).to_contain_text("word40 ")
        os.kill(pid, signal.SIGKILL)
        expect(tab.locator(".connection")).to_contain_text("Connecting…")
        saved = int(reply.get_attribute("data-saved") or 0)
        shown = reply.locator(".answer").inner_text()
        shot(tab, "killed")
    assert saved > 100
    with Store(tmp_path / "chat.sqlite3") as store:
        [conversation] = store.conversations()
        user, response = store.path(conversation.id)
    assert (user.content, response.state) == ("slow epic", "stopped")
    assert response.content[:saved] == shown[:saved]
    assert STORY.startswith(response.content)
    with server_process(tmp_path) as (url, _):
        again = open_tab(f"/#/chat/{conversation.id}", url=url)
        expect(again.locator(".notice")).to_contain_text("The server ended before the response was complete.")
        assert again.locator(".answer").inner_text().startswith(shown[:saved].rstrip())
        again.locator(".notice").get_by_role("button", name="Continue").click()
        expect(again.locator(".assistant .answer")).to_contain_text(response.content.split()[-1] + " word")
