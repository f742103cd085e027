"""The list of conversations in a real browser: names, search, files, and several tabs."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.apps.chat.page.browser.conftest import OpenTab, send, shot
from tests.apps.chat.page.page_server import PageServer
from tests.apps.chat.page.talking_service import TEXTS


def open_menu(tab: Page, title: str) -> None:
    tab.bring_to_front()
    tab.locator(".item", has_text=title).hover()
    tab.get_by_role("button", name=f"Actions for {title}", exact=True).click()


def test_a_conversation_is_renamed_in_the_list(tab: Page) -> None:
    send(tab, "A first name")
    open_menu(tab, "A first name")
    shot(tab, "menu")
    tab.get_by_role("menuitem", name="Rename").click()
    tab.get_by_label("New title").fill("A better name")
    tab.get_by_label("New title").press("Enter")
    expect(tab.locator("h1")).to_have_text("A better name")
    expect(tab.locator(".is-current")).to_have_text("A better name")
    expect(tab.locator(".is-current a")).to_be_focused()


def test_a_conversation_is_deleted_after_a_question(tab: Page) -> None:
    send(tab, "Throw me away")
    open_menu(tab, "Throw me away")
    tab.get_by_role("menuitem", name="Delete").click()
    expect(tab.get_by_role("dialog")).to_contain_text("“Throw me away”")
    tab.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(tab.locator(".item", has_text="Throw me away")).to_have_count(1)
    open_menu(tab, "Throw me away")
    tab.get_by_role("menuitem", name="Delete").click()
    tab.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(tab.locator(".item", has_text="Throw me away")).to_have_count(0)
    expect(tab.locator(".welcome")).to_be_visible()


def test_a_response_is_stopped_from_the_list(tab: Page) -> None:
    TEXTS["hold from afar"] = "Half of it, and the rest."
    send(tab, "hold from afar", wait=False)
    expect(tab.locator(".assistant .answer")).to_contain_text("Half")
    tab.get_by_role("button", name="New chat", exact=True).click()
    tab.get_by_role("button", name="Stop the response in hold from afar").click()
    expect(tab.get_by_role("button", name="Stop the response in hold from afar")).to_have_count(0)
    tab.locator(".item", has_text="hold from afar").click()
    expect(tab.locator(".assistant")).to_have_attribute("data-state", "stopped")


def test_search_marks_what_it_found_and_leads_to_the_message_on_its_branch(tab: Page) -> None:
    send(tab, "Tell me of the zeppelin")
    tab.get_by_label("Regenerate").click()
    expect(tab.locator(".siblings")).to_contain_text("2 of 2")
    tab.locator(".message.user").hover()
    tab.locator(".message.user").get_by_label("Edit").click()
    tab.get_by_label("Edit your message").fill("Tell me of the balloon")
    tab.get_by_label("Edit your message").press("Enter")
    expect(tab.locator(".assistant .answer")).to_have_text("You said: Tell me of the balloon")
    tab.get_by_role("button", name="New chat", exact=True).click()
    tab.keyboard.press("Control+k")
    tab.get_by_label("Search conversations").type("ZEPPELIN")
    expect(tab.locator(".result")).to_have_count(1)
    expect(tab.locator(".result mark")).to_have_text("zeppelin")
    shot(tab, "search")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    expect(tab.locator(".message.is-found")).to_contain_text("zeppelin")
    expect(tab.locator(".message.user .text")).to_have_text("Tell me of the zeppelin")
    tab.get_by_label("Search conversations").press("Escape")
    expect(tab.locator(".list")).to_be_visible()


def test_a_search_without_results_says_so(tab: Page) -> None:
    tab.get_by_label("Search conversations").fill("qqqqqq")
    expect(tab.locator(".results")).to_have_text("Nothing found.")


def test_a_conversation_is_exported_in_three_forms_and_imported_again(tab: Page, tmp_path: Path) -> None:
    TEXTS["Take me home"] = "With **pleasure**."
    send(tab, "Take me home")

    def export(form: str) -> str:
        open_menu(tab, "Take me home")
        with tab.expect_download() as download:
            tab.get_by_role("menuitem", name=f"Export as {form}").click()
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        return file.read_text()

    markdown = "# Take me home\n\n## User\n\nTake me home\n\n## Assistant\n\nWith **pleasure**.\n"
    assert export("Markdown") == markdown
    turns = [{"role": "user", "content": "Take me home"}, {"role": "assistant", "content": "With **pleasure**."}]
    assert json.loads(export("messages row")) == {"messages": turns}
    export("JSON")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "take-me-home.json",
        "take-me-home.jsonl",
        "take-me-home.md",
    ]
    first = tab.url
    tab.get_by_label("Import and export").click()
    with tab.expect_file_chooser() as chooser:
        tab.get_by_role("menuitem", name="Import a file").click()
    chooser.value.set_files(tmp_path / "take-me-home.json")
    expect(tab.locator(".toast")).to_have_text("Imported 1 conversation")
    tab.wait_for_url(lambda url: url != first)
    expect(tab.locator(".answer strong")).to_have_text("pleasure")
    expect(tab.locator(".item", has_text="Take me home")).to_have_count(2)


def test_a_file_that_is_no_export_is_refused_with_its_problems(tab: Page, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"format": "something else"}')
    tab.locator("input[type=file]").set_input_files(wrong)
    expect(tab.get_by_role("dialog")).to_contain_text("nothing was imported")
    expect(tab.get_by_role("dialog")).to_contain_text("\"format\" 'something else'")
    shot(tab, "import-problem")
    tab.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(tab.get_by_role("dialog")).to_have_count(0)


def exported(**facts: object) -> dict[str, object]:
    """An export with one exchange, whose response has these facts."""
    time = "2026-11-28T12:00:00+00:00"
    message = {"created": time, "state": "complete"}
    return {
        "format": "mlx-suite chat",
        "version": 1,
        "conversations": [
            {
                "title": "From elsewhere",
                "model": "",
                "system": "",
                "sampling": {"temperature": "hot", "compare": 7, "dropped": [], "top_k": 9},
                "created": time,
                "updated": time,
                "leaf": 2,
                "messages": [
                    {**message, "id": 1, "parent": None, "role": "user", "content": "Sum?", "facts": {}},
                    {**message, "id": 2, "parent": 1, "role": "assistant", "content": "Four.", "facts": facts},
                ],
            }
        ],
    }


def test_the_reasoning_before_a_response_is_folded_away(tab: Page, tmp_path: Path) -> None:
    file = tmp_path / "reasoning.json"
    file.write_text(json.dumps(exported(reasoning="Two and <b>two</b>.")))
    tab.locator("input[type=file]").set_input_files(file)
    expect(tab.locator(".answer")).to_have_text("Four.")
    expect(tab.get_by_text("Two and <b>two</b>.")).to_be_hidden()
    tab.get_by_text("Reasoning").click()
    expect(tab.get_by_text("Two and <b>two</b>.")).to_be_visible()


def test_an_imported_message_with_nonsense_for_facts_is_shown(tab: Page, tmp_path: Path) -> None:
    file = tmp_path / "nonsense.json"
    nonsense = {"error": "bad", "tokens_per_second": {}, "context": "big", "prompt_tokens": [1], "model": 3, "seed": {}}
    file.write_text(json.dumps(exported(**nonsense, continued="often")))
    tab.locator("input[type=file]").set_input_files(file)
    expect(tab.locator(".answer")).to_have_text("Four.")
    send(tab, "And three?")
    expect(tab.locator(".answer").last).to_have_text("You said: And three?")


def test_all_conversations_are_exported_at_once(tab: Page, tmp_path: Path, server: PageServer) -> None:
    send(tab, "One of many")
    tab.get_by_label("Import and export").click()
    with tab.expect_download() as download:
        tab.get_by_role("menuitem", name="Export all as JSON").click()
    download.value.save_as(tmp_path / "all.json")
    exported = json.loads((tmp_path / "all.json").read_text())["conversations"]
    assert len(exported) == len(server.store.conversations())


def test_two_tabs_show_the_same_list_and_the_same_streaming_text(open_tab: OpenTab) -> None:
    one = open_tab()
    TEXTS["hold both"] = "This appears in both tabs, and this later."
    send(one, "hold both", wait=False)
    two = open_tab("/#" + one.url.partition("#")[2])
    for tab in (one, two):
        expect(tab.locator(".assistant .answer")).to_have_text("This appears in both")
        expect(tab.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    two.get_by_role("button", name="Stop", exact=True).click()
    for tab in (one, two):
        expect(tab.locator(".assistant")).to_have_attribute("data-state", "stopped")
    two.locator(".notice").get_by_role("button", name="Continue").click()
    for tab in (one, two):
        expect(tab.locator(".assistant .answer")).to_have_text("This appears in both tabs, and this later.")
    open_menu(two, "hold both")
    two.get_by_role("menuitem", name="Rename").click()
    two.get_by_label("New title").fill("In step")
    two.get_by_label("New title").press("Enter")
    expect(one.locator("h1")).to_have_text("In step")
    open_menu(one, "In step")
    one.get_by_role("menuitem", name="Delete").click()
    one.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(two.locator(".welcome")).to_be_visible()
