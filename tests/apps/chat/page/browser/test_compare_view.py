"""Compare in a real browser: one prompt, two columns."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

from tests.apps.chat.page.browser.conftest import shot
from tests.apps.chat.page.page_server import PageServer
from tests.apps.chat.page.talking_service import TEXTS


def columns(tab: Page) -> tuple[Locator, Locator]:
    return tab.get_by_label("Column A"), tab.get_by_label("Column B")


def compare(tab: Page, text: str) -> None:
    tab.get_by_label("Message to both columns").fill(text)
    tab.get_by_label("Message to both columns").press("Enter")


def test_a_model_and_its_adapter_answer_the_same_prompt_side_by_side(tab: Page, server: PageServer) -> None:
    tab.get_by_role("link", name="Compare").click()
    one, two = columns(tab)
    expect(one.locator(".column-model")).to_contain_text("tiny-llama3")
    expect(two.locator(".column-model")).to_contain_text("poet")
    compare(tab, "What is a tree?")
    expect(one.locator(".answer")).to_have_text("You said: What is a tree?")
    expect(two.locator(".answer")).to_have_text("poet heard: What is a tree?")
    compare(tab, "And a bush?")
    expect(two.locator(".answer").last).to_have_text("poet heard: And a bush?")
    expect(one.locator(".answer").last).to_have_text("You said: And a bush?")
    assert "poet heard: What is a tree?" in server.service.prompts[-1]
    assert "You said: What is a tree?" in server.service.prompts[-2]
    shot(tab, "compare")
    tab.reload()
    expect(two.locator(".answer")).to_have_count(2)


def test_both_columns_stream_at_once_and_stop_together(tab: Page) -> None:
    TEXTS["hold the pair"] = "Two texts at once, side by side."
    tab.goto(tab.url.partition("#")[0] + "#/compare")
    compare(tab, "hold the pair")
    for column in columns(tab):
        expect(column.locator(".answer")).to_have_text("Two texts at")
        expect(column.locator(".assistant")).to_have_attribute("data-state", "writing")
    shot(tab, "compare-streaming")
    tab.get_by_role("button", name="Stop", exact=True).click()
    for column in columns(tab):
        expect(column.locator(".assistant")).to_have_attribute("data-state", "stopped")


def test_two_settings_of_one_model_are_compared(tab: Page, server: PageServer) -> None:
    tab.goto(tab.url.partition("#")[0] + "#/compare")
    one, two = columns(tab)
    two.locator(".column-model").click()
    tab.get_by_label("Model", exact=True).select_option("tiny-llama3")
    tab.get_by_label("Temperature", exact=True).fill("1.9")
    tab.get_by_label("Temperature", exact=True).press("Tab")
    tab.get_by_role("button", name="Close settings").click()
    expect(two.locator(".column-model")).to_contain_text("temperature 1.9")
    compare(tab, "Cold or hot")
    expect(two.locator(".assistant")).to_have_attribute("data-state", "complete")
    expect(one.locator(".assistant")).to_have_attribute("data-state", "complete")
    assert [sent.sampling.temperature for sent in server.service.generations[-2:]] == [0.7, 1.9]
    assert [sent.model for sent in server.service.generations[-2:]] == ["tiny-llama3", "tiny-llama3"]


def test_a_column_becomes_a_chat_of_its_own(tab: Page) -> None:
    tab.goto(tab.url.partition("#")[0] + "#/compare")
    compare(tab, "Choose one of us")
    _, two = columns(tab)
    expect(two.locator(".assistant")).to_have_attribute("data-state", "complete")
    two.get_by_role("button", name="Open as a chat").click()
    tab.wait_for_url(re.compile(r"#/chat/\d+$"))
    expect(tab.locator(".assistant .answer")).to_have_text("poet heard: Choose one of us")
    expect(tab.locator(".topbar")).to_contain_text("poet")


def test_a_column_that_cannot_begin_says_why_and_tries_again(tab: Page) -> None:
    tab.goto(tab.url.partition("#")[0] + "#/compare")
    compare(tab, "one is full")
    one, two = columns(tab)
    expect(one.get_by_role("alert")).to_contain_text("Too many requests are waiting")
    expect(two.locator(".answer")).to_have_text("poet heard: one is full")
    one.get_by_role("button", name="Retry").click()
    expect(one.locator(".answer")).to_have_text("You said: one is full")
