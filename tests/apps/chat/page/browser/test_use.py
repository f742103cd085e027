"""The page by keyboard, on a phone, in the dark, and for screen readers."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.apps.chat.page.browser.conftest import OpenTab, send, shot
from tests.apps.chat.page.talking_service import TEXTS

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
RICH = """# Soup

A *good* soup needs **time**:

1. Chop the onions.
2. Wait, [as they say](https://example.org).
   - stir
   - taste

> Patience is half the recipe.

| Part | Grams |
|:--|--:|
| Onions | 500 |
| Butter | 60 |

```python
def soup(onions: int) -> str:
    # let it simmer
    return f"{onions} onions" if onions else "water"
```

Use `low` heat.
"""


def test_shift_enter_writes_a_line_break_and_enter_sends(tab: Page) -> None:
    field = tab.get_by_role("textbox", name="Message")
    field.type("one")
    field.press("Shift+Enter")
    field.type("two")
    expect(field).to_have_value("one\ntwo")
    field.press("Enter")
    expect(tab.locator(".message.user .text")).to_have_text("one\ntwo")


def test_shortcuts_search_begin_a_chat_open_the_settings_and_stop(tab: Page) -> None:
    TEXTS["hold the keys"] = "Half and half."
    send(tab, "hold the keys", wait=False)
    expect(tab.locator(".assistant")).to_have_attribute("data-state", "writing")
    tab.keyboard.press("Control+k")
    expect(tab.get_by_label("Search conversations")).to_be_focused()
    tab.keyboard.press("Control+Shift+,")
    expect(tab.locator("#settings")).to_be_visible()
    tab.keyboard.press("Escape")
    expect(tab.locator("#settings")).to_be_hidden()
    expect(tab.locator(".assistant")).to_have_attribute("data-state", "writing")
    tab.keyboard.press("Escape")
    expect(tab.locator(".assistant")).to_have_attribute("data-state", "stopped")
    tab.keyboard.press("Control+Shift+O")
    expect(tab.locator(".welcome")).to_be_visible()
    expect(tab.get_by_role("textbox", name="Message")).to_be_focused()


def test_a_question_mark_shows_the_shortcuts_but_not_in_a_field(tab: Page) -> None:
    tab.get_by_role("textbox", name="Message").type("Why?")
    expect(tab.get_by_role("dialog")).to_have_count(0)
    tab.locator("h1").click()
    tab.keyboard.press("?")
    expect(tab.get_by_role("dialog")).to_contain_text("Stop the response")
    shot(tab, "shortcuts")
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("dialog")).to_have_count(0)


def test_a_menu_is_used_with_arrow_keys_and_gives_the_focus_back(tab: Page) -> None:
    send(tab, "By keyboard alone")
    button = tab.get_by_role("button", name="Actions for By keyboard alone")
    button.focus()
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("menuitem", name="Rename")).to_be_focused()
    tab.keyboard.press("ArrowUp")
    expect(tab.get_by_role("menuitem", name="Delete")).to_be_focused()
    tab.keyboard.press("Escape")
    expect(button).to_be_focused()


def test_what_has_the_focus_is_visible(tab: Page) -> None:
    tab.locator(".settings-button").focus()
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Tab")
    outline = tab.locator(".settings-button").evaluate("element => getComputedStyle(element).outline")
    assert outline == "rgb(15, 118, 110) solid 2px"


def test_a_finished_response_is_announced_politely(tab: Page) -> None:
    send(tab, "Read me aloud")
    expect(tab.locator("#announcer")).to_have_text("Response finished. You said: Read me aloud")
    assert tab.locator("#announcer").get_attribute("aria-live") == "polite"


def test_every_button_and_field_has_a_name(tab: Page) -> None:
    TEXTS["name everything"] = RICH
    send(tab, "name everything")
    tab.get_by_role("button", name="Settings").click()
    nameless = tab.evaluate(
        """() => [...document.querySelectorAll("button, a[href], input:not([type=file]), select, textarea")]
            .filter((each) => each.offsetParent && !each.ariaLabel && !each.labels?.length && !each.textContent.trim())
            .map((each) => each.outerHTML)"""
    )
    assert nameless == []
    roles = tab.evaluate("['nav', 'main', 'aside', 'header h1'].map((tag) => document.querySelectorAll(tag).length)")
    assert roles == [1, 1, 1, 1]


def test_the_theme_follows_the_system_until_one_is_chosen(open_tab: OpenTab) -> None:
    tab = open_tab(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    tab.wait_for_selector(".welcome")
    shot(tab, "dark-empty")
    assert tab.evaluate(ground) == "rgb(18, 22, 21)"
    TEXTS["dark soup"] = RICH
    send(tab, "dark soup")
    shot(tab, "dark")
    tab.get_by_label("Colours: system. Change").click()
    assert tab.evaluate(ground) == "rgb(255, 255, 255)"
    tab.reload()
    tab.wait_for_selector(".message")
    assert tab.evaluate(ground) == "rgb(255, 255, 255)"
    shot(tab, "rich")
    tab.get_by_label("Colours: light. Change").click()
    assert tab.evaluate(ground) == "rgb(18, 22, 21)"
    tab.get_by_label("Colours: dark. Change").click()
    assert tab.evaluate("document.documentElement.dataset.theme") is None


def test_on_a_phone_enter_writes_a_line_and_the_button_sends(open_tab: OpenTab) -> None:
    tab = open_tab(**PHONE)
    field = tab.get_by_role("textbox", name="Message")
    tab.wait_for_selector(".welcome")
    shot(tab, "phone-empty")
    field.tap()
    field.type("one")
    field.press("Enter")
    field.type("two")
    expect(field).to_have_value("one\ntwo")
    expect(tab.locator(".message")).to_have_count(0)
    TEXTS["one\ntwo"] = RICH
    tab.get_by_role("button", name="Send").tap()
    expect(tab.locator(".assistant")).to_have_attribute("data-state", "complete")
    shot(tab, "phone")
    width = tab.evaluate("document.documentElement.scrollWidth")
    assert width == 390


def test_on_a_phone_the_list_is_a_drawer(open_tab: OpenTab) -> None:
    tab = open_tab(**PHONE)
    expect(tab.locator("#sidebar")).to_be_hidden()
    tab.get_by_role("button", name="Conversations").tap()
    expect(tab.locator("#sidebar")).to_be_visible()
    tab.wait_for_timeout(300)
    shot(tab, "phone-drawer")
    assert tab.locator("#main").evaluate("element => element.inert") is True
    tab.touchscreen.tap(380, 400)
    expect(tab.locator("#sidebar")).to_be_hidden()
    expect(tab.get_by_role("button", name="Conversations")).to_be_focused()
    tab.get_by_role("button", name="Settings").tap()
    shot(tab, "phone-settings")
    expect(tab.get_by_role("button", name="Close settings")).to_be_visible()
    tab.get_by_role("button", name="Close settings").tap()
    tab.goto(tab.url.partition("#")[0] + "#/compare")
    tab.wait_for_selector(".compare")
    shot(tab, "phone-compare")


@pytest.mark.parametrize("width", [700, 1000])
def test_nothing_is_cut_off_at_widths_in_between(open_tab: OpenTab, width: int) -> None:
    tab = open_tab(viewport={"width": width, "height": 700})
    tab.wait_for_selector(".welcome")
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    tab.get_by_role("button", name="Settings").click()
    shot(tab, f"width-{width}")
    assert tab.evaluate("document.documentElement.scrollWidth") == width


def test_motion_is_off_for_those_who_want_none(open_tab: OpenTab) -> None:
    tab = open_tab(reduced_motion="reduce")
    TEXTS["hold still"] = "Half and half."
    send(tab, "hold still", wait=False)
    moving = "document.getAnimations().filter((each) => each.playState === 'running').length"
    expect(tab.locator(".item .is-writing")).to_be_visible()
    assert tab.evaluate(moving) == 0
    tab.keyboard.press("Escape")


def test_waiting_for_the_first_token_is_shown(tab: Page) -> None:
    TEXTS["hold nothing"] = "Later."
    send(tab, "hold nothing", wait=False)
    expect(tab.get_by_label("Reading the prompt")).to_be_visible()
    shot(tab, "loading")
    tab.keyboard.press("Escape")


def test_a_streaming_response_looks_like_the_finished_one(tab: Page) -> None:
    TEXTS["hold the soup"] = RICH * 2
    send(tab, "hold the soup", wait=False)
    expect(tab.locator(".code-block .keyword").first).to_be_visible()
    shot(tab, "streaming")
    tab.keyboard.press("Escape")
