"""A ceiling for memory makes the batch smaller and leaves the rows as they are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlx_suite.engine import slots
from mlx_suite.magpie import make_dataset, prepare
from mlx_suite.magpie.ceiling import Footprint, footprint_of, longest_row, make_room
from mlx_suite.magpie.row import Plan, plan_rows
from mlx_suite.runtime.errors import UserError
from tests.magpie.conftest import QUESTIONS, Loaded

SameRows = Callable[[Path], None]


def plan_of(checkpoint: Loaded, **settings: object) -> Plan:
    made = checkpoint.settings(**settings)  # type: ignore[arg-type]
    return plan_rows(checkpoint.model, checkpoint.tokenizer, checkpoint.template, made, QUESTIONS)


def make(checkpoint: Loaded, folder: Path, **settings: object) -> list[str]:
    """Make 30 rows; returns what was said about memory."""
    said: list[str] = []
    parts = checkpoint.model, checkpoint.tokenizer, checkpoint.template
    made = checkpoint.settings(**settings)  # type: ignore[arg-type]
    make_dataset(*parts, made, folder, questions=QUESTIONS, on_note=said.append)
    return said


def test_rows_take_what_is_left_beside_the_weights() -> None:
    footprint = Footprint(there=1000, row=90, step=10, fixed=100)

    assert footprint.of(3) == 1000 + 100 + 3 * 100 + 3 * 90
    assert [footprint.rows(size) for size in (1000, 1289, 1290, 1669, 1670)] == [0, 0, 1, 2, 3]


def test_the_longest_row_is_bounded_by_limits_and_context(checkpoint: Loaded) -> None:
    plan = plan_of(checkpoint)
    header = len(plan.pre_query.header_ids)

    assert longest_row(plan, 4096) == header + 32 + 12 + 16 + 32
    assert longest_row(plan_of(checkpoint, turns=3), 4096) == header + 32 + 3 * (12 + 16 + 32)
    assert longest_row(plan, 50) == 50


def test_a_tight_ceiling_makes_fewer_rows_at_a_time_and_the_same_ones(
    checkpoint: Loaded, tmp_path: Path, same_rows: SameRows
) -> None:
    footprint = footprint_of(checkpoint.model, plan_of(checkpoint))
    ceiling = footprint.of(3) + footprint.row // 2

    [note] = make(checkpoint, tmp_path, memory=f"{ceiling}B")
    assert note.startswith("3 rows side by side in place of 8: ")
    assert note.endswith("may be taken (--memory). The rows stay the same.")
    same_rows(tmp_path)


def test_slots_given_up_meanwhile_change_no_row(
    checkpoint: Loaded, tmp_path: Path, same_rows: SameRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "GROWTH", 8)
    monkeypatch.setattr(prepare, "make_room", lambda *given: replace(make_room(*given), limit=1))
    make(checkpoint, tmp_path)
    same_rows(tmp_path)


def test_too_little_for_one_row_is_said_with_what_to_do(checkpoint: Loaded, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        make(checkpoint, tmp_path, memory="1KB")

    assert caught.value.what.startswith("1.00 KB are not enough: the weights take ")
    assert caught.value.where == "--memory"
    assert "mlx-suite quantize MODEL" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_by_default_a_machine_without_free_memory_makes_one_row_at_a_time(
    checkpoint: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_suite.magpie.ceiling.available_memory", lambda: -(10**15))
    room = make_room(checkpoint.model, plan_of(checkpoint), 8)

    assert room.slots == 1
    assert room.note is not None


@pytest.mark.parametrize("memory", ["", "much", "-1GB", "0", 8])
def test_a_size_that_is_none_is_refused(checkpoint: Loaded, memory: object) -> None:
    with pytest.raises(UserError, match="a size of memory as in 8GB"):
        checkpoint.settings(memory=memory)
