"""The Magpie view in a real browser, on the real engine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.apps.chat.page.browser.conftest import OpenTab, shot
from tests.apps.chat.page.page_server import PageServer

MINUTE = 60_000


@pytest.fixture
def session(real: PageServer) -> str:
    """A session of eight rows, some of which are cut off."""
    settings = {"rows": 8, "seed": 7, "max_answer": 12}
    name: str = httpx.post(f"{real.url}/page/magpie", json=settings).raise_for_status().json()["name"]
    return name


@pytest.fixture
def view(open_tab: OpenTab, real: PageServer, session: str) -> Page:
    """A tab with the finished session."""
    tab = open_tab(f"/#/magpie/{session}", url=real.url)
    expect(tab.get_by_role("button", name="20 more")).to_be_visible(timeout=MINUTE)
    expect(tab.locator(".row-card")).to_have_count(8)
    return tab


def step(tab: Page, name: str) -> Locator:
    """The count of a step of the funnel."""
    return tab.locator(f'.funnel-step[data-step="{name}"] dd')


def kept_rows(view: Page) -> Locator:
    return view.locator('.row-card[data-kept="true"]')


def test_the_empty_view_explains_magpie_and_starts_a_session(open_tab: OpenTab, real: PageServer) -> None:
    tab = open_tab("/#/magpie/new", url=real.url)
    expect(tab.locator(".magpie-start")).to_contain_text("Given only the header of a user turn")
    shot(tab, "magpie-empty")
    tab.get_by_label("Rows to ask").fill("9")
    tab.get_by_label("Longest response").fill("30")
    tab.get_by_label("Category").select_option("Math")
    tab.get_by_role("button", name="Start").click()
    expect(tab.locator(".model-name")).to_have_text("tiny-llama3 · temperature 1 · Math · 9 rows")
    instruction = tab.locator(".row-instruction").first
    expect(instruction).not_to_be_empty()
    shot(tab, "magpie-live")
    expect(tab.get_by_role("button", name="20 more")).to_be_visible(timeout=MINUTE)
    expect(tab.locator(".row-card")).to_have_count(9)
    expect(step(tab, "Asked")).to_have_text("9")
    assert re.search(r"#/magpie/\d{8}-\d{6}-[0-9a-f]{4}$", tab.url)


def test_the_counts_add_up_and_reasons_filter_the_rows(view: Page) -> None:
    counts = {name: int(step(view, name).inner_text()) for name in ("Asked", "Screened out", "Rejected", "Kept")}
    assert counts["Asked"] == 8 == counts["Screened out"] + counts["Rejected"] + counts["Kept"]
    assert counts["Kept"] == kept_rows(view).count() > 0
    reason = view.locator(".funnel-reasons .chip", has_text="response too long")
    reason.click()
    shown = view.locator(".row-card:visible")
    expect(shown.first).to_contain_text("The response reached the token limit")
    assert shown.count() == int(reason.locator(".chip-count").inner_text())
    reason.click()
    expect(shown).to_have_count(8)
    view.locator(".magpie-filters").get_by_text("Kept").click()
    expect(shown).to_have_count(counts["Kept"])
    view.locator(".magpie-filters").get_by_text("By hand").click()
    expect(view.get_by_text("No row matches this filter.")).to_be_visible()


def test_keys_move_keep_reject_and_undo(view: Page) -> None:
    kept = kept_rows(view).count()
    view.locator(".magpie-filters").get_by_text("Kept").click()
    view.locator(".magpie-filters").get_by_text("All").click()
    first = kept_rows(view).first
    number = int(first.get_attribute("data-row") or "")
    for _ in range(number + 1):
        view.keyboard.press("j")
    expect(first).to_have_class(re.compile("is-selected"))
    view.keyboard.press("r")
    card = view.locator(f'.row-card[data-row="{number}"]')
    expect(card).to_contain_text("Rejected by hand")
    expect(step(view, "Kept")).to_have_text(str(kept - 1))
    shot(view, "magpie-judged")
    view.keyboard.press("a")
    expect(card).to_contain_text("Kept by hand")
    view.keyboard.press("u")
    expect(card).to_contain_text("Accepted")
    expect(step(view, "Kept")).to_have_text(str(kept))
    view.keyboard.press("j")
    view.keyboard.press("k")
    expect(card).to_be_focused()


def test_a_row_that_was_cut_off_cannot_be_kept(view: Page) -> None:
    cut = view.locator(".row-card", has_text="token limit").first
    expect(cut.get_by_role("button", name="Keep")).to_be_hidden()
    for _ in range(1 + int(cut.get_attribute("data-row") or "")):
        view.keyboard.press("j")
    view.keyboard.press("a")
    expect(view.locator(".toast")).to_contain_text("has no complete response")
    expect(cut).to_have_attribute("data-kept", "false")


def test_verdicts_survive_a_reload(view: Page) -> None:
    card = kept_rows(view).first
    number = card.get_attribute("data-row")
    card.get_by_role("button", name="Reject").click()
    same = view.locator(f'.row-card[data-row="{number}"]')
    expect(same).to_contain_text("Rejected by hand")
    view.reload()
    expect(same).to_contain_text("Rejected by hand")
    same.get_by_role("button", name="Reject").click()
    expect(same).to_contain_text("Accepted")


def test_kept_rows_are_exported_for_finetune(view: Page, tmp_path: Path) -> None:
    kept = kept_rows(view).all()
    texts = [(row.locator(".row-instruction").inner_text(), row.locator(".row-response").inner_text()) for row in kept]
    with view.expect_download() as download:
        view.keyboard.press("e")
    file = tmp_path / "kept.jsonl"
    download.value.save_as(file)
    rows = [json.loads(line)["messages"] for line in file.read_text().splitlines()]
    assert [(row[0]["content"], row[1]["content"]) for row in rows] == texts
    view.get_by_role("button", name="Export", exact=True).click()
    with view.expect_download() as download:
        view.get_by_role("menuitem", name="accepted.jsonl").click()
    download.value.save_as(file)
    assert json.loads(file.read_text().splitlines()[0])["model"] == "tiny-llama3"


def test_a_session_is_stopped_continued_and_deleted(open_tab: OpenTab, real: PageServer) -> None:
    settings = {"rows": 200, "seed": 3, "max_answer": 200}
    name = httpx.post(f"{real.url}/page/magpie", json=settings).json()["name"]
    tab = open_tab(f"/#/magpie/{name}", url=real.url)
    tab.get_by_role("button", name="Stop").click()
    expect(tab.get_by_role("button", name="Continue")).to_be_visible()
    expect(tab.locator('.row-card[data-state="stopped"]').first).to_contain_text("Stopped")
    shot(tab, "magpie-stopped")
    tab.get_by_role("button", name="Continue").click()
    expect(tab.get_by_role("button", name="Stop")).to_be_visible()
    tab.get_by_role("button", name="Stop").click()
    tab.get_by_role("button", name="Sessions").click()
    tab.get_by_role("menuitem", name="Delete this session").click()
    tab.get_by_role("button", name="Delete", exact=True).click()
    expect(tab).not_to_have_url(re.compile(name))
    assert name not in httpx.get(f"{real.url}/page/magpie").json()["sessions"]


def test_another_tab_follows_the_same_session(view: Page, open_tab: OpenTab, real: PageServer, session: str) -> None:
    other = open_tab(f"/#/magpie/{session}", url=real.url)
    card = kept_rows(view).first
    number = card.get_attribute("data-row")
    card.get_by_role("button", name="Reject").click()
    expect(other.locator(f'.row-card[data-row="{number}"]')).to_contain_text("Rejected by hand")


def test_a_phone_in_the_dark_shows_the_session(open_tab: OpenTab, real: PageServer, session: str) -> None:
    phone = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark", "has_touch": True, "is_mobile": True}
    tab = open_tab(f"/#/magpie/{session}", url=real.url, **phone)
    expect(tab.get_by_role("button", name="20 more")).to_be_visible(timeout=MINUTE)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    shot(tab, "magpie-phone-dark")
