"""A run resumes only with the same settings; differences are listed, and long values are cut to what differs."""

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.resume import LONGEST, change, differences, facts_text, refuse_other, stored_facts

KIND = "mlx-suite test"


def test_equal_facts_have_no_differences_whether_lists_or_tuples() -> None:
    assert differences({"seed": 1, "topics": ["a"]}, {"seed": 1, "topics": ("a",)}) == []


def test_each_difference_is_a_line_with_dots_between_nested_keys() -> None:
    stored = {"seed": 1, "sampling": {"temperature": 1.0, "top_p": 1.0}, "model": "a"}
    now = {"seed": 2, "sampling": {"temperature": 1.0, "top_p": 0.9}, "model": "b", "new": True}

    assert differences(stored, now, ignored=["model"]) == [
        "seed: was 1, now 2",
        "sampling.top_p: was 1.0, now 0.9",
        "new: was none, now true",
    ]


def test_a_long_value_is_cut_to_the_part_that_differs() -> None:
    header = (
        "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: {} Jul 2024"
    )
    text = header + " and much more text that is the same in both"

    line = change("header", text.format(26), text.format(27))

    assert "Today Date: 26" in line and "Today Date: 27" in line
    assert "start_header_id" not in line
    assert len(line) < 2 * LONGEST


@given(before=st.text(max_size=300), now=st.text(max_size=300))
def test_a_line_is_short_and_shows_two_different_values_differently(before: str, now: str) -> None:
    assume(before != now)
    was, _, will = change("x", before, now).removeprefix("x: was ").partition(", now ")
    assert was != will
    assert len(was) + len(will) <= 2 * LONGEST


def test_the_error_lists_the_differences_and_says_where(tmp_path: Path) -> None:
    refuse_other([], tmp_path)
    with pytest.raises(UserError, match="The file was started with other settings") as caught:
        refuse_other(["seed: was 1, now 2"], tmp_path / "rows.jsonl", what="file")

    assert caught.value.details == ("seed: was 1, now 2",)
    assert caught.value.where == str(tmp_path / "rows.jsonl")


def test_facts_survive_a_round_trip_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(facts_text(KIND, {"seed": 1, "topics": ("ä",)}), encoding="utf-8")

    assert stored_facts(path, KIND) == {"kind": KIND, "seed": 1, "topics": ["ä"]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot be read"),
        ("[]", "not written by this command"),
        ('{"kind": "other"}', "not written by this command"),
        (None, "missing"),
    ],
    ids=["torn", "not an object", "another kind", "missing"],
)
def test_a_file_without_facts_is_rejected(tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "settings.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=reason):
        stored_facts(path, KIND)
