"""A memory budget shrinks the batch and does not change the rows."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_suite.engine import slots
from mlx_suite.magpie import make_dataset, run
from mlx_suite.magpie.memory import Footprint, footprint_of, longest_row, memory_budget
from mlx_suite.magpie.plan import RowPlan, plan_rows
from mlx_suite.runtime.errors import UserError
from tests.magpie.conftest import QUESTIONS, Loaded

SameRows = Callable[[Path], None]


def plan_of(checkpoint: Loaded, **settings: object) -> RowPlan:
    made = checkpoint.settings(**settings)  # type: ignore[arg-type]
    return plan_rows(checkpoint.model, checkpoint.tokenizer, checkpoint.template, made, QUESTIONS)


def make(checkpoint: Loaded, folder: Path, **settings: object) -> list[str]:
    """Generate 30 rows; returns the notes about memory."""
    notes: list[str] = []
    parts = checkpoint.model, checkpoint.tokenizer, checkpoint.template
    made = checkpoint.settings(**settings)  # type: ignore[arg-type]
    make_dataset(*parts, made, folder, questions=QUESTIONS, on_note=notes.append)
    return notes


def test_rows_fit_into_the_memory_left_by_the_weights() -> None:
    footprint = Footprint(weights=1000, row=90, step=10, fixed=100)

    assert footprint.of(3) == 1000 + 100 + 3 * 100 + 3 * 90
    assert [footprint.rows(size) for size in (1000, 1289, 1290, 1669, 1670)] == [0, 0, 1, 2, 3]


def test_the_longest_row_is_bounded_by_limits_and_context(checkpoint: Loaded) -> None:
    plan = plan_of(checkpoint)
    header = len(plan.pre_query.header_ids)

    assert longest_row(plan, 4096) == header + 32 + 12 + 16 + 32
    assert longest_row(plan_of(checkpoint, turns=3), 4096) == header + 32 + 3 * (12 + 16 + 32)
    assert longest_row(plan, 50) == 50


def test_a_tight_budget_shrinks_the_batch_and_keeps_the_rows(
    checkpoint: Loaded, tmp_path: Path, same_rows: SameRows
) -> None:
    footprint = footprint_of(checkpoint.model, plan_of(checkpoint))
    budget = footprint.of(3) + footprint.row // 2

    [note] = make(checkpoint, tmp_path, memory=f"{budget}B")
    # The measured footprint varies by a few percent between calls.
    assert re.match(r"Batch of [234] rows instead of 8, which would take up to ", note)
    assert note.endswith(" (--memory). The rows stay the same.")
    same_rows(tmp_path)


@pytest.mark.slow
def test_giving_up_slots_during_a_run_changes_no_row(
    checkpoint: Loaded, tmp_path: Path, same_rows: SameRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "GROWTH", 8)
    monkeypatch.setattr(run, "memory_budget", lambda *given: replace(memory_budget(*given), limit=1))
    make(checkpoint, tmp_path)
    same_rows(tmp_path)


def test_a_budget_below_one_row_is_refused_with_a_remedy(checkpoint: Loaded, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        make(checkpoint, tmp_path, memory="1KB")

    assert caught.value.what.startswith("1.00 KB is not enough: the weights take ")
    assert caught.value.where == "--memory"
    assert "mlx-suite quantize MODEL" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_the_default_is_one_row_at_a_time_without_free_memory(
    checkpoint: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_suite.magpie.memory.available_memory", lambda: -(10**15))
    budget = memory_budget(checkpoint.model, plan_of(checkpoint), 8)

    assert budget.slots == 1
    assert budget.note is not None


@pytest.mark.parametrize("memory", ["", "much", "-1GB", "0", 8])
def test_an_invalid_size_is_refused(checkpoint: Loaded, memory: object) -> None:
    with pytest.raises(UserError, match="expected a size such as 8GB"):
        checkpoint.settings(memory=memory)
