"""The tokens of a response in a real browser, on the real engine."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.apps.chat.page.browser.conftest import OpenTab, send, shot
from tests.apps.chat.page.page_server import PageServer

GREEDY = "localStorage.setItem('new-chat', JSON.stringify({ settings: { temperature: 0 } }))"


@pytest.fixture
def chat(open_tab: OpenTab, real: PageServer) -> Page:
    """A tab with a greedy response."""
    tab = open_tab(url=real.url)
    tab.evaluate(GREEDY)
    tab.reload()
    send(tab, "Which day comes after Monday?")
    expect(tab.locator(".assistant .answer")).to_have_text("Tuesday comes after Monday.")
    return tab


def show_tokens(tab: Page) -> None:
    tab.locator(".assistant").last.get_by_role("button", name="Tokens").click()
    expect(tab.locator(".token").first).to_be_visible()


def test_the_tokens_replace_the_text_shaded_by_probability(chat: Page) -> None:
    show_tokens(chat)
    expect(chat.locator(".assistant .answer")).to_be_hidden()
    words = chat.locator(".token").all_inner_texts()
    assert "".join(words).replace("·", " ") == "Tuesday comes after Monday.end"
    expect(chat.locator(".tokens-note")).to_have_text(f"{len(words)} tokens, scored by tiny-llama3.")
    assert all(re.fullmatch("[0-6]", token.get_attribute("data-level") or "") for token in chat.locator(".token").all())
    chat.get_by_role("button", name="Back to the text").click()
    expect(chat.locator(".assistant .answer")).to_be_visible()
    expect(chat.locator(".token")).to_have_count(0)


def test_a_token_shows_its_ten_alternatives_with_probabilities(chat: Page) -> None:
    show_tokens(chat)
    chat.locator(".token").nth(2).click()
    card = chat.get_by_role("dialog", name="Alternatives to ·comes")
    expect(card.locator(".alternative")).to_have_count(10)
    expect(card.locator(".alternative").first).to_be_disabled()
    percents = card.locator(".alternative-percent").all_inner_texts()
    assert all(re.fullmatch(r"(< )?[\d.]+ %", percent) for percent in percents)
    shot(chat, "tokens-card")
    chat.keyboard.press("Escape")
    expect(card).to_have_count(0)
    expect(chat.locator(".token").nth(2)).to_be_focused()


def test_a_branch_is_another_version_that_starts_with_the_chosen_token(chat: Page) -> None:
    show_tokens(chat)
    chat.locator(".token").nth(2).click()
    other = chat.locator(".alternative").nth(1)
    word = other.locator("code").inner_text().replace("·", " ")
    other.click()
    expect(chat.locator(".siblings")).to_contain_text("2 of 2")
    expect(chat.locator(".assistant")).to_have_attribute("data-state", "complete")
    expect(chat.locator(".assistant .answer")).to_have_text(re.compile(f"^Tuesday{re.escape(word)}"))
    shot(chat, "tokens-branched")
    chat.get_by_role("button", name="Previous version").click()
    expect(chat.locator(".assistant .answer")).to_have_text("Tuesday comes after Monday.")


def test_the_end_of_a_response_can_be_replaced_to_write_on(chat: Page) -> None:
    show_tokens(chat)
    chat.locator(".token[data-ends]").click()
    chat.locator(".alternative:not(:disabled)").first.click()
    expect(chat.locator(".siblings")).to_contain_text("2 of 2")
    expect(chat.locator(".assistant .answer")).to_have_text(re.compile(r"^Tuesday comes after Monday\.\s*\S"))


def test_arrow_keys_move_between_tokens_and_alternatives(chat: Page) -> None:
    show_tokens(chat)
    chat.locator(".token").first.focus()
    chat.keyboard.press("ArrowRight")
    expect(chat.locator(".token").nth(1)).to_be_focused()
    chat.keyboard.press("Enter")
    expect(chat.locator(".alternative:not(:disabled)").first).to_be_focused()
    chat.keyboard.press("ArrowDown")
    expect(chat.locator(".alternative:not(:disabled)").nth(1)).to_be_focused()
    chat.keyboard.press("Escape")
    chat.keyboard.press("Escape")
    expect(chat.locator(".assistant .answer")).to_be_visible()


def test_tokens_on_a_phone(open_tab: OpenTab, real: PageServer) -> None:
    phone = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark", "has_touch": True, "is_mobile": True}
    tab = open_tab(url=real.url, **phone)
    tab.get_by_label("Message", exact=True).fill("Write a short story about a lighthouse keeper.")
    tab.get_by_role("button", name="Send").click()
    tab.locator(".assistant[data-state=complete]").wait_for()
    show_tokens(tab)
    tab.locator(".token").nth(3).tap()
    expect(tab.locator(".alternative").nth(1)).to_contain_text("Branch here")
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    shot(tab, "tokens-phone-dark")
