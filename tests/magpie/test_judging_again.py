"""After raised limits or a changed policy, a folder ends as if it had been started with them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.magpie import RunSummary
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import read_journal
from tests.magpie.conftest import Loaded

ROWS = ("accepted.jsonl", "rejected.jsonl")


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ROWS}


def drafts(folder: Path) -> int:
    return len(list(read_journal(folder / "drafts.jsonl")))


def changed(checkpoint: Loaded, folder: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> RunSummary:
    """Generate 20 rows, resume with other settings, and compare with a run that had those from the start."""
    checkpoint.make(folder / "changed", **{"count": 20, **before})
    summary = checkpoint.make(folder / "changed", **{"count": 20, **after})
    checkpoint.make(folder / "plain", **{"count": 20, **after})
    assert contents(folder / "changed") == contents(folder / "plain")
    return summary


def test_a_raised_limit_generates_only_the_rows_that_had_reached_it(checkpoint: Loaded, tmp_path: Path) -> None:
    low, high = {"max_instruction": 6, "max_answer": 8}, {"max_instruction": 30, "max_answer": 40}
    checkpoint.make(tmp_path / "changed", count=20, **low)
    before, cut = drafts(tmp_path / "changed"), 0
    for record in (record for name in ROWS for record in read_journal(tmp_path / "changed" / name)):
        cut += "limit" in (record["instruction_reason"], record["answer_reason"])
    summary = checkpoint.make(tmp_path / "changed", count=20, **high)
    checkpoint.make(tmp_path / "plain", count=20, **high)

    assert contents(tmp_path / "changed") == contents(tmp_path / "plain")
    assert summary.work is not None
    # The truncated rows, and a few former duplicates; far fewer than all.
    assert 0 < drafts(tmp_path / "changed") - before <= cut + 8 < before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"near_duplicate": None}),
        ({"near_duplicate": None}, {"near_duplicate": 0.5}),
        ({}, {"quotas": ("category:v=0.5,Q=0.2",)}),
        ({"quotas": ("category:v=0.5,Q=0.2",)}, {}),
        ({"quotas": ("category:v=0.5,Q=0.2",), "count": 10}, {"quotas": ("category:v=0.5,Q=0.2",)}),
        ({"topics": ("a", "b"), "count": 10}, {"topics": ("a", "b")}),
    ],
    ids=["looser", "stricter", "quota", "no quota", "more of a quota", "more of topics"],
)
def test_a_changed_policy_judges_existing_rows_again(
    checkpoint: Loaded, tmp_path: Path, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    changed(checkpoint, tmp_path, before, after)


def test_a_stricter_policy_that_the_drafts_satisfy_needs_no_model(checkpoint: Loaded, tmp_path: Path) -> None:
    checkpoint.make(tmp_path, count=20)
    with pytest.raises(UserError, match="rows are accepted, and"):
        checkpoint.make(tmp_path, count=20, min_input_quality="excellent", patience=20)
    assert not list(read_journal(tmp_path / "accepted.jsonl"))  # the random model tags everything as good
    summary = checkpoint.make(tmp_path, count=20, min_input_quality="good")

    assert summary.work is None
    assert summary.accepted == 20


def test_a_file_added_to_a_folder_of_evaluation_data_is_detected(checkpoint: Loaded, tmp_path: Path) -> None:
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    (evaluation / "one.txt").write_text("Nobody has ever asked this?\n")
    checkpoint.make(tmp_path / "rows", count=10, decontaminate=(str(evaluation),))
    [first, *_] = read_journal(tmp_path / "rows" / "accepted.jsonl")
    asked = first["messages"][0]["content"]
    (evaluation / "two.txt").write_text(f"{asked}\n")
    checkpoint.make(tmp_path / "rows", count=10, decontaminate=(str(evaluation),))

    assert asked not in [row["messages"][0]["content"] for row in read_journal(tmp_path / "rows" / "accepted.jsonl")]


def test_a_lowered_limit_is_refused(checkpoint: Loaded, undisturbed: Path) -> None:
    with pytest.raises(UserError) as caught:
        checkpoint.make(undisturbed, max_instruction=10, max_answer=15, temperature=1.5)

    assert caught.value.details == (
        "temperature: was 1.0, now 1.5",
        "max_instruction: was 12, now 10; it can be raised, not lowered",
        "max_answer: was 16, now 15; it can be raised, not lowered",
    )


def test_a_kill_while_the_row_files_are_rewritten_is_detected(checkpoint: Loaded, tmp_path: Path) -> None:
    checkpoint.make(tmp_path / "changed", count=20)
    checkpoint.make(tmp_path / "plain", count=20, near_duplicate=None)
    # A kill between the two files: one is new, and the manifest says that both are being rewritten.
    manifest = json.loads((tmp_path / "changed" / "manifest.json").read_text())
    (tmp_path / "changed" / "manifest.json").write_text(json.dumps({**manifest, "judged_by": None}))
    (tmp_path / "changed" / "accepted.jsonl").write_bytes((tmp_path / "plain" / "accepted.jsonl").read_bytes())
    checkpoint.make(tmp_path / "changed", count=20)
    checkpoint.make(tmp_path / "again", count=20)

    assert contents(tmp_path / "changed") == contents(tmp_path / "again")
