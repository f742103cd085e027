"""The settings panel in a real browser, and what reaches the engine."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from mlx_suite.engine import Sampling
from tests.apps.chat.page.browser.conftest import send, shot
from tests.apps.chat.page.page_server import PageServer


def set_value(tab: Page, label: str, value: str) -> None:
    tab.get_by_label(label, exact=True).fill(value)
    tab.get_by_label(label, exact=True).press("Tab")


def test_every_setting_reaches_the_engine_and_stays_with_the_conversation(tab: Page, server: PageServer) -> None:
    tab.get_by_role("button", name="Settings").click()
    expect(tab.get_by_label("Model")).to_be_focused()
    tab.get_by_label("Model").select_option("poet")
    set_value(tab, "System prompt", "Speak in verse.")
    for label, value in [
        ("Temperature", "1.2"),
        ("Top-p", "0.9"),
        ("Top-k", "40"),
        ("Min-p", "0.1"),
        ("Repetition penalty", "1.1"),
        ("Presence penalty", "0.5"),
        ("Frequency penalty", "0.3"),
        ("Maximum tokens", "77"),
        ("Seed", "123"),
    ]:
        set_value(tab, label, value)
    shot(tab, "settings")
    tab.get_by_role("button", name="Close settings").click()
    expect(tab.get_by_role("button", name="Settings")).to_be_focused()
    send(tab, "Sing")
    sent = server.service.generations[-1]
    assert (sent.model, sent.seed, sent.limit) == ("poet", 123, 77)
    found = Sampling(**{**vars(sent.sampling), "banned": ()})
    assert found == Sampling(
        temperature=1.2,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=0.5,
        frequency_penalty=0.3,
    )
    assert "Speak in verse." in server.service.prompts[-1]
    expect(tab.locator(".assistant .meters")).to_contain_text("poet")
    expect(tab.locator(".assistant .meters")).to_contain_text("seed 123")
    tab.reload()
    tab.get_by_role("button", name="Settings").click()
    expect(tab.get_by_label("Top-k", exact=True)).to_have_value("40")
    expect(tab.get_by_label("System prompt")).to_have_value("Speak in verse.")
    expect(tab.locator(".topbar")).to_contain_text("poet")


def test_a_slider_and_its_number_are_one_value(tab: Page) -> None:
    tab.get_by_role("button", name="Settings").click()
    tab.get_by_label("Temperature, slider").focus()
    tab.keyboard.press("Home")
    expect(tab.get_by_label("Temperature", exact=True)).to_have_value("0")
    set_value(tab, "Temperature", "1.5")
    expect(tab.get_by_label("Temperature, slider")).to_have_value("1.5")
    tab.get_by_role("button", name="Reset to defaults").click()
    expect(tab.get_by_label("Temperature", exact=True)).to_have_value("0.7")


def test_a_value_out_of_range_is_not_taken(tab: Page, server: PageServer) -> None:
    tab.get_by_role("button", name="Settings").click()
    set_value(tab, "Top-p", "7")
    tab.keyboard.press("Escape")
    send(tab, "Unchanged")
    assert server.service.generations[-1].sampling.top_p == 1.0


def test_settings_change_in_the_middle_of_a_conversation(tab: Page, server: PageServer) -> None:
    send(tab, "Before")
    tab.get_by_role("button", name="Settings").click()
    set_value(tab, "System prompt", "Be brief.")
    tab.keyboard.press("Escape")
    expect(tab.locator("#settings")).to_be_hidden()
    send(tab, "After")
    assert "Be brief." in server.service.prompts[-1]
    assert "Be brief." not in server.service.prompts[-2]
