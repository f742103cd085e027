"""A chat in a real browser: what a person sees while a response streams, and what can be done with messages."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.apps.chat.page.browser.conftest import OpenTab, send, shot
from tests.apps.chat.page.page_server import PageServer
from tests.apps.chat.page.talking_service import TEXTS


def test_a_new_chat_shows_the_model_and_fills_the_field_with_what_to_try(tab: Page) -> None:
    expect(tab.locator(".welcome")).to_contain_text("tiny-llama3")
    expect(tab.locator(".welcome")).to_contain_text("2,000 tokens")
    tab.get_by_role("button", name="Plan a day").click()
    expect(tab.get_by_role("textbox", name="Message")).to_have_value("Plan a day in a city by the sea, hour by hour.")


def test_enter_sends_and_the_response_appears_with_its_meters(tab: Page) -> None:
    send(tab, "Good morning")
    expect(tab.locator(".assistant .answer")).to_have_text("You said: Good morning")
    meters = tab.locator(".assistant .meters")
    expect(meters).to_contain_text("tiny-llama3")
    expect(meters).to_contain_text("of 2,000")
    expect(meters).to_contain_text(re.compile(r"\d cached"))
    expect(meters).to_contain_text("stop")
    expect(meters).to_contain_text("saved")
    expect(meters).to_contain_text("tok/s")
    expect(tab.locator("#sidebar .is-current")).to_have_text("Good morning")
    assert re.search(r"#/chat/\d+$", tab.url)


def test_a_response_streams_while_it_is_written_and_can_be_stopped_and_continued(tab: Page) -> None:
    TEXTS["hold on"] = "One two three four five six seven eight."
    send(tab, "hold on", wait=False)
    answer = tab.locator(".assistant .answer")
    expect(answer).to_have_text("One two three four")
    expect(tab.locator(".assistant")).to_have_attribute("data-state", "writing")
    expect(tab.locator(".assistant .saved")).to_have_text("saved")
    tab.get_by_role("button", name="Stop", exact=True).click()
    expect(tab.locator(".assistant")).to_have_attribute("data-state", "stopped")
    expect(answer).to_have_text("One two three four")
    tab.locator(".notice").get_by_role("button", name="Continue").click()
    expect(tab.locator(".assistant")).to_have_attribute("data-state", "complete")
    expect(answer).to_have_text("One two three four five six seven eight.")


def test_a_continued_response_is_prompted_with_the_exact_text_so_far(tab: Page, server: PageServer) -> None:
    TEXTS["hold that"] = "First half,  second half."
    send(tab, "hold that", wait=False)
    expect(tab.locator(".assistant .answer")).to_have_text("First half,")
    tab.keyboard.press("Escape")
    tab.locator(".notice").get_by_role("button", name="Continue").click()
    expect(tab.locator(".assistant")).to_have_attribute("data-state", "complete")
    assert server.service.prompts[-1].endswith("<|end_header_id|>\n\nFirst half,")
    tab.get_by_label("Edit").last.click()
    expect(tab.get_by_label("Edit the response")).to_have_value("First half,  second half.")


def test_a_response_that_ends_at_the_limit_says_so_and_can_be_continued(tab: Page) -> None:
    tab.get_by_role("button", name="Settings").click()
    tab.get_by_label("Maximum tokens").fill("3")
    tab.get_by_label("Maximum tokens").press("Tab")
    tab.get_by_role("button", name="Close settings").click()
    send(tab, "alpha beta gamma delta")
    expect(tab.locator(".assistant .answer")).to_have_text("You said: alpha")
    expect(tab.locator(".notice")).to_contain_text("Ended at the maximum of tokens.")
    tab.locator(".notice").get_by_role("button", name="Continue").click()
    expect(tab.locator(".assistant .answer")).to_have_text("You said: alpha beta gamma delta")


def test_a_regenerated_response_is_a_version_beside_the_first(tab: Page) -> None:
    TEXTS["Roll a die"] = "A four."
    send(tab, "Roll a die")
    TEXTS["Roll a die"] = "A six."
    tab.get_by_label("Regenerate").click()
    expect(tab.locator(".assistant .answer")).to_have_text("A six.")
    expect(tab.locator(".assistant .siblings")).to_contain_text("2 of 2")
    tab.get_by_label("Previous version").click()
    expect(tab.locator(".assistant .answer")).to_have_text("A four.")
    expect(tab.locator(".assistant .siblings")).to_contain_text("1 of 2")
    tab.reload()
    expect(tab.locator(".assistant .answer")).to_have_text("A four.")


def test_an_edited_turn_gets_a_new_response_and_the_old_branch_stays(tab: Page) -> None:
    send(tab, "Name a river")
    send(tab, "and another")
    tab.locator(".message.user").first.hover()
    tab.locator(".message.user").first.get_by_label("Edit").click()
    tab.get_by_label("Edit your message").fill("Name a mountain")
    shot(tab, "edit")
    tab.get_by_label("Edit your message").press("Enter")
    expect(tab.locator(".message")).to_have_count(2)
    expect(tab.locator(".assistant .answer")).to_have_text("You said: Name a mountain")
    tab.locator(".message.user").hover()
    tab.get_by_label("Previous version").first.click()
    expect(tab.locator(".message")).to_have_count(4)
    expect(tab.locator(".assistant .answer").last).to_have_text("You said: and another")


def test_escape_leaves_the_editor_and_changes_nothing(tab: Page) -> None:
    send(tab, "Keep this")
    tab.locator(".message.user").hover()
    tab.locator(".message.user").get_by_label("Edit").click()
    tab.get_by_label("Edit your message").fill("Lose this")
    tab.get_by_label("Edit your message").press("Escape")
    expect(tab.locator(".message.user .text")).to_have_text("Keep this")
    expect(tab.locator(".message.user")).to_be_focused()


def test_an_edited_response_is_continued_from_the_edited_text(tab: Page) -> None:
    TEXTS["Count"] = "one two three"
    send(tab, "Count")
    TEXTS["Count"] = "uno due tre"
    tab.locator(".assistant").get_by_label("Edit").click()
    tab.get_by_label("Edit the response").fill("uno due")
    tab.get_by_role("button", name="Save").click()
    expect(tab.locator(".assistant .answer")).to_have_text("uno due")
    expect(tab.locator(".assistant .meters")).to_contain_text("edited")
    tab.locator(".assistant .tools").get_by_label("Continue").click()
    expect(tab.locator(".assistant .answer")).to_have_text("uno due tre")


def test_a_branch_is_a_new_chat_with_the_messages_so_far(tab: Page) -> None:
    send(tab, "Branch here")
    send(tab, "Not in the branch")
    first = tab.url
    tab.locator(".assistant").first.hover()
    tab.locator(".assistant").first.get_by_label("Branch into a new chat").click()
    expect(tab.locator(".message")).to_have_count(2)
    assert tab.url != first
    send(tab, "Only in the branch")
    tab.goto(first)
    expect(tab.locator(".message.user .text").last).to_have_text("Not in the branch")


def test_code_is_coloured_and_copied_without_its_frame(tab: Page) -> None:
    TEXTS["Show me code"] = "Here:\n\n```python\ndef one():\n    return 1\n```\n\nDone."
    send(tab, "Show me code")
    expect(tab.locator(".code-block .keyword").first).to_have_text("def")
    colour = tab.locator(".code-block .keyword").first.evaluate("element => getComputedStyle(element).color")
    assert colour == "rgb(138, 31, 107)"
    tab.get_by_role("button", name="Copy python code").click()
    expect(tab.locator(".code-block .copy")).to_contain_text("Copied")
    assert tab.evaluate("navigator.clipboard.readText()") == "def one():\n    return 1\n"


def test_the_whole_response_is_copied_as_markdown(tab: Page) -> None:
    TEXTS["In bold"] = "This is **bold**."
    send(tab, "In bold")
    expect(tab.locator(".answer strong")).to_have_text("bold")
    tab.locator(".assistant").get_by_label("Copy text").click()
    expect(tab.locator(".toast")).to_have_text("Copied")
    assert tab.evaluate("navigator.clipboard.readText()") == "This is **bold**."


def test_what_the_model_writes_never_becomes_a_script_or_a_picture(tab: Page) -> None:
    TEXTS["Attack"] = (
        "<img src=x onerror=\"document.title='broken'\"> ![a](https://example.org/a.png) <script>1</script>"
    )
    send(tab, "Attack")
    expect(tab.locator(".assistant .answer")).to_contain_text("<script>1</script>")
    assert tab.locator(".thread img, .thread script, .thread [style]").count() == 0
    send(tab, "<b>mine</b>")
    expect(tab.locator(".message.user .text").last).to_have_text("<b>mine</b>")


def test_a_reader_further_up_is_not_pulled_down_by_new_text(tab: Page) -> None:
    TEXTS["long"] = "\n\n".join(f"Paragraph {number}." for number in range(60))
    TEXTS["hold long"] = "\n\n".join(f"Line {number}." for number in range(120))
    send(tab, "long")
    place = "document.querySelector('.scroller').scrollTop"
    assert tab.evaluate(place) > 500
    send(tab, "hold long", wait=False)
    expect(tab.locator(".assistant .answer").last).to_contain_text("Line 40.")
    expect(tab.get_by_label("Jump to the latest text")).to_be_hidden()
    tab.locator(".scroller").evaluate("element => { element.scrollTop = 100; }")
    expect(tab.get_by_label("Jump to the latest text")).to_be_visible()
    tab.keyboard.press("Escape")
    expect(tab.locator(".message").last).to_have_attribute("data-state", "stopped")
    assert tab.evaluate(place) == 100
    shot(tab, "long")
    tab.get_by_label("Jump to the latest text").click()
    assert tab.evaluate(place) > 500


def test_a_draft_survives_a_reload(tab: Page) -> None:
    tab.get_by_role("textbox", name="Message").fill("Half a thought")
    tab.reload()
    expect(tab.get_by_role("textbox", name="Message")).to_have_value("Half a thought")
    send(tab, "A whole thought")
    tab.get_by_role("textbox", name="Message").fill("A second one")
    tab.reload()
    expect(tab.get_by_role("textbox", name="Message")).to_have_value("A second one")
    tab.get_by_role("button", name="New chat", exact=True).click()
    expect(tab.get_by_role("textbox", name="Message")).to_have_value("")


def test_a_closed_tab_does_not_stop_the_response(open_tab: OpenTab) -> None:
    tab = open_tab()
    TEXTS["slow story"] = " ".join(f"word{number}" for number in range(30))
    send(tab, "slow story", wait=False)
    expect(tab.locator(".assistant .answer")).to_contain_text("word1")
    address = tab.url
    tab.close()
    other = open_tab("/#" + address.partition("#")[2])
    expect(other.locator(".assistant")).to_have_attribute("data-state", "complete")
    expect(other.locator(".assistant .answer")).to_have_text(TEXTS["slow story"])
