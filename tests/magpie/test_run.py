"""The rows of a run depend only on model, template and settings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_suite.curation.reasons import REASONS
from mlx_suite.magpie import make_dataset, replay_row
from mlx_suite.magpie.judge import key_of
from mlx_suite.magpie.plan import plan_rows
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.journal import read_journal
from tests.magpie.conftest import QUESTIONS, Loaded, load_checkpoint
from tests.magpie.random_checkpoint import write_checkpoint

SameRows = Callable[[Path], None]


def rows(folder: Path, name: str = "accepted") -> list[dict[str, Any]]:
    return list(read_journal(folder / f"{name}.jsonl"))


class Stop(Exception):
    """Raised by a test to interrupt a run."""


def stop_after(decided: int) -> Callable[[int, int, int], None]:
    def on_progress(accepted: int, asked: int, in_flight: int) -> None:
        if asked >= decided:
            raise Stop

    return on_progress


def test_a_run_ends_with_exactly_the_requested_rows_in_order_and_without_duplicates(undisturbed: Path) -> None:
    accepted, rejected = rows(undisturbed), rows(undisturbed, "rejected")

    assert len(accepted) == 30
    assert len({key_of(row["messages"][0]["content"]) for row in accepted}) == 30
    assert [row["index"] for row in accepted] == sorted(row["index"] for row in accepted)
    assert [row["index"] for row in rejected] == sorted(row["index"] for row in rejected)
    last = accepted[-1]["index"]
    assert sorted(row["index"] for row in accepted + rejected) == list(range(last + 1))


def test_a_record_describes_how_it_was_generated(checkpoint: Loaded, undisturbed: Path) -> None:
    row = rows(undisturbed)[0]
    fingerprint = json.loads((undisturbed / "manifest.json").read_text())["fingerprint"]

    assert row["id"] == f"{fingerprint[:8]}-{row['index']:06}"
    assert row["fingerprint"] == fingerprint
    assert row["model"] == checkpoint.folder.name
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    assert (row["instruction_reason"], row["answer_reason"]) == ("stop", "stop")
    assert row["instruction_stop"] == row["answer_stop"] == "<|eot_id|>"
    # A token is a letter here; surrounding whitespace is stripped.
    assert row["instruction_tokens"] >= len(row["messages"][0]["content"])


def test_rejected_rows_have_a_reason_and_no_unneeded_response(undisturbed: Path) -> None:
    rejected = rows(undisturbed, "rejected")
    by_reason = {row["rejection"]: row for row in rejected}

    assert set(by_reason) <= set(REASONS)
    assert {"duplicate", "instruction_limit", "instruction_stop", "instruction_empty"} <= set(by_reason)
    for row in rejected:
        kept = "answer" if row["rejection"].startswith("answer") else "instruction"
        assert row["messages"][-1]["role"] == {"answer": "assistant", "instruction": "user"}[kept]
    assert by_reason["instruction_stop"]["instruction_stop"] == "<|end_of_text|>"
    assert by_reason["instruction_limit"]["instruction_tokens"] == 12
    twin = by_reason["duplicate"]
    [original] = [row for row in rows(undisturbed) if row["id"] == twin["duplicate_of"]]
    assert original["index"] < twin["index"]
    assert key_of(original["messages"][0]["content"]) == key_of(twin["messages"][0]["content"])


@pytest.mark.parametrize(
    "batch", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(32, marks=pytest.mark.slow)]
)
def test_the_batch_size_does_not_change_the_rows(
    checkpoint: Loaded, tmp_path: Path, same_rows: SameRows, batch: int
) -> None:
    checkpoint.make(tmp_path, batch=batch)

    same_rows(tmp_path)


def test_an_interrupted_run_resumes(checkpoint: Loaded, tmp_path: Path, same_rows: SameRows) -> None:
    for decided in (1, 17, 40):
        with pytest.raises(Stop):
            checkpoint.make(tmp_path, batch=5, on_progress=stop_after(decided))
    summary = checkpoint.make(tmp_path, batch=5)

    same_rows(tmp_path)
    assert summary.work is not None and summary.work.rows < 30


def test_a_larger_count_extends_the_folder(checkpoint: Loaded, tmp_path: Path, same_rows: SameRows) -> None:
    checkpoint.make(tmp_path, count=7)
    assert len(rows(tmp_path)) == 7
    checkpoint.make(tmp_path, count=30)

    same_rows(tmp_path)


def test_a_complete_folder_is_left_as_it_is(checkpoint: Loaded, undisturbed: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    before = (undisturbed / "manifest.json").stat().st_mtime_ns
    summary = checkpoint.make(undisturbed, on_progress=lambda *state: seen.append(state))

    assert summary.work is None
    assert seen == [(30, summary.decided, 0)]
    assert (undisturbed / "manifest.json").stat().st_mtime_ns == before


def test_progress_tells_the_rows_in_flight_from_the_first_one_on(checkpoint: Loaded, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    checkpoint.make(tmp_path, count=5, batch=4, on_progress=lambda *state: seen.append(state))

    assert seen[:5] == [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 0, 4)]
    assert max(in_flight for _, _, in_flight in seen) == 4
    assert seen[-1][0] == 5


def test_a_model_that_ends_no_user_turn_is_told_after_16_rows(tmp_path: Path) -> None:
    endless = load_checkpoint(write_checkpoint(tmp_path / "model", end=1e-6, wrong_end=1e-6))

    with pytest.raises(UserError, match="does not end the user's turn: 16 of its first 16 instructions") as caught:
        endless.make(tmp_path / "rows")

    assert "came to no <|eot_id|>" in caught.value.what
    assert "--train-on all" in (caught.value.fix or "")
    assert len(rows(tmp_path / "rows", "rejected")) == 16


def test_an_untrained_end_of_turn_is_told_before_the_first_row(tmp_path: Path) -> None:
    endless = load_checkpoint(write_checkpoint(tmp_path / "model", end=1e-6, wrong_end=1e-6))
    tokenizer, embedding = endless.tokenizer, endless.model.model.embed_tokens
    alike = mx.array([*tokenizer.reserved_ids, tokenizer.id_of("<|eot_id|>")])
    embedding.weight[alike] = embedding.weight[alike[:1]] + 0.01 * mx.random.normal((len(alike), 32))
    notes: list[str] = []

    with pytest.raises(UserError) as caught:
        make_dataset(
            endless.model,
            tokenizer,
            endless.template,
            endless.settings(),
            tmp_path / "rows",
            questions=QUESTIONS,
            on_note=notes.append,
        )

    told = (
        "<|eot_id|>, which ends a user's turn, was never trained in this model: "
        "cosine similarity 1.00 to the reserved tokens"
    )
    assert notes == [told]
    assert told in caught.value.what


def test_every_row_can_be_replayed_alone(checkpoint: Loaded, undisturbed: Path) -> None:
    for row in [rows(undisturbed)[0], rows(undisturbed)[-1], rows(undisturbed, "rejected")[0]]:
        again = replay_row(
            checkpoint.model,
            checkpoint.tokenizer,
            checkpoint.template,
            checkpoint.settings(),
            row["index"],
            questions=QUESTIONS,
        )
        assert again == {key: value for key, value in row.items() if key != "nearest"}


def test_only_the_header_is_prefilled_and_only_once(checkpoint: Loaded, tmp_path: Path) -> None:
    work = checkpoint.make(tmp_path, count=12, batch=4).work
    plan = plan_rows(checkpoint.model, checkpoint.tokenizer, checkpoint.template, checkpoint.settings(), QUESTIONS)
    header, to_assistant = len(plan.pre_query.header_ids), len(plan.pre_query.to_assistant_ids)

    assert work is not None
    # The header's last token is fed with the first decode step of every row.
    assert work.prefilled == header - 1
    answered = sum(row["answer_reason"] is not None for row in rows(tmp_path) + rows(tmp_path, "rejected"))
    asked = len(rows(tmp_path) + rows(tmp_path, "rejected"))
    unneeded = work.fed - asked - answered * to_assistant
    # Rows in flight when the last one was accepted, and responses to duplicates not yet known as such.
    assert 0 <= unneeded <= (4 + 8) * (1 + to_assistant)


def test_a_small_count_does_not_fill_a_large_batch(checkpoint: Loaded, tmp_path: Path) -> None:
    work = checkpoint.make(tmp_path, count=1, batch=64).work

    assert work is not None
    assert work.slots == 2


def test_a_system_prompt_is_part_of_the_rows_and_changes_them(checkpoint: Loaded, tmp_path: Path) -> None:
    checkpoint.make(tmp_path / "steered", count=3, system="Ask about cats.")
    checkpoint.make(tmp_path / "plain", count=3)
    steered, plain = rows(tmp_path / "steered"), rows(tmp_path / "plain")

    assert steered[0]["messages"][0] == {"role": "system", "content": "Ask about cats."}
    assert [row["messages"][1:] for row in steered] != [row["messages"] for row in plain]


def test_a_reject_streak_stops_the_run_with_an_explanation(tmp_path: Path) -> None:
    from tests.magpie.conftest import load_checkpoint

    silent = load_checkpoint(write_checkpoint(tmp_path / "model", letters="a", end=0.6))
    with pytest.raises(UserError) as caught:
        silent.make(tmp_path / "out", count=200, patience=30)
    error = caught.value

    made = len(rows(tmp_path / "out"))
    assert 0 < made < 20
    assert error.what == f"{made} of 200 rows are accepted, and the last 30 rows were all rejected"
    assert any(line.endswith("times: the instruction repeats an earlier one") for line in error.details)
    assert f"settle for --count {made}" in error.fix
    with pytest.raises(UserError, match="the last 30 rows were all rejected"):
        silent.make(tmp_path / "out", count=200, patience=30)
    assert len(rows(tmp_path / "out")) == made
    assert silent.make(tmp_path / "out", count=made).work is None
