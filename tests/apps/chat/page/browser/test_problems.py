"""What goes wrong is said where it happened, with something that can be done about it."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.apps.chat.page.browser.conftest import OpenTab, send, shot
from tests.apps.chat.page.page_server import page_server
from tests.apps.chat.page.talking_service import TEXTS


def test_a_full_queue_is_said_and_retry_sends_the_stored_turn(tab: Page) -> None:
    send(tab, "the queue is full", wait=False)
    expect(tab.get_by_role("alert")).to_contain_text("Too many requests are waiting")
    shot(tab, "error")
    tab.get_by_role("alert").get_by_role("button", name="Retry").click()
    expect(tab.locator(".assistant .answer")).to_have_text("You said: the queue is full")
    expect(tab.get_by_role("alert")).to_have_count(0)


def test_a_turn_without_a_response_can_get_one_after_a_reload(tab: Page) -> None:
    send(tab, "still full today", wait=False)
    expect(tab.get_by_role("alert")).to_be_visible()
    tab.reload()
    expect(tab.locator(".notice")).to_contain_text("No response yet.")
    tab.get_by_role("button", name="Generate response").click()
    expect(tab.locator(".assistant .answer")).to_have_text("You said: still full today")


def test_a_failure_of_the_engine_keeps_the_text_and_offers_to_try_again(tab: Page) -> None:
    TEXTS["please fail now"] = "As far as it got."
    send(tab, "please fail now", wait=False)
    expect(tab.get_by_role("alert")).to_contain_text("Out of memory on the device")
    expect(tab.locator(".assistant .answer")).to_have_text("As far as it got.")
    shot(tab, "engine-failure")
    TEXTS["please fail now"] = "As far as it got. And on."
    tab.get_by_role("alert").get_by_role("button", name="Continue").click()
    expect(tab.locator(".assistant .answer")).to_have_text("As far as it got. And on.")
    expect(tab.get_by_role("alert")).to_have_count(0)


def test_a_full_context_offers_to_drop_the_oldest_exchange_and_shows_what_is_dropped(tab: Page) -> None:
    TEXTS["a long text"] = "word " * 1000
    send(tab, "a long text")
    send(tab, "short")
    send(tab, "another long text " + "word " * 1000, wait=False)
    alert = tab.get_by_role("alert")
    expect(alert).to_contain_text(re.compile(r"The prompt has [\d,]+ tokens; the context has room for 2,000"))
    expect(alert.get_by_role("button")).to_have_text(["Shorten the message", "Drop the oldest exchange", "New chat"])
    shot(tab, "context-full")
    alert.get_by_role("button", name="Drop the oldest exchange").click()
    expect(tab.locator(".assistant").last).to_have_attribute("data-state", "complete")
    expect(tab.locator(".divider")).to_contain_text("1 exchange above is not in the prompt")
    expect(tab.locator(".message.is-dropped")).to_have_count(2)
    tab.get_by_role("button", name="Put back").click()
    expect(tab.locator(".divider")).to_have_count(0)


def test_a_full_context_offers_to_shorten_and_a_new_chat_with_the_same_text(tab: Page) -> None:
    text = "far too much " + "word " * 2100
    send(tab, text, wait=False)
    alert = tab.get_by_role("alert")
    expect(alert.get_by_role("button")).to_have_text(["Shorten the message", "New chat"])
    alert.get_by_role("button", name="Shorten the message").click()
    expect(tab.get_by_label("Edit your message")).to_be_focused()
    tab.keyboard.press("Escape")
    alert.get_by_role("button", name="New chat").click()
    expect(tab.locator(".welcome")).to_be_visible()
    expect(tab.get_by_role("textbox", name="Message")).to_have_value(text)


def test_a_server_that_is_gone_is_said_and_the_page_comes_back_with_it(open_tab: OpenTab, tmp_path: Path) -> None:
    with page_server(tmp_path) as server:
        tab = open_tab(url=server.url)
        send(tab, "Before it went")
        server.end()
        expect(tab.locator(".connection")).to_contain_text("Connecting…")
        tab.get_by_role("textbox", name="Message").fill("Are you there?")
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("alert")).to_contain_text("The server does not answer")
        shot(tab, "server-gone")
        server.start()
        expect(tab.locator(".connection")).to_have_text("", timeout=15_000)
        expect(tab.get_by_role("textbox", name="Message")).to_have_value("Are you there?")
        tab.keyboard.press("Enter")
        expect(tab.locator(".assistant .answer").last).to_have_text("You said: Are you there?")
        expect(tab.get_by_role("alert")).to_have_count(0)


def test_a_server_with_a_key_is_asked_with_the_key_that_the_user_enters(open_tab: OpenTab, tmp_path: Path) -> None:
    with page_server(tmp_path, key="open sesame") as server:
        tab = open_tab(url=server.url)
        expect(tab.get_by_role("dialog")).to_contain_text("This server was started with a key.")
        tab.get_by_label("Key", exact=True).fill("wrong")
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("dialog")).to_contain_text("The server refused this key.")
        shot(tab, "key")
        tab.get_by_label("Key", exact=True).fill("open sesame")
        tab.keyboard.press("Enter")
        expect(tab.locator(".welcome")).to_be_visible()
        send(tab, "Let me in")
        tab.reload()
        expect(tab.locator(".assistant .answer")).to_have_text("You said: Let me in")
        assert tab.evaluate("localStorage.getItem('api-key')") is None
