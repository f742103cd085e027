"""`bench workers`: the figures, and one process's share of the work. Speed is not tested."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite_apps.bench.workers import WorkersComparison, WorkersJob, WorkersRound, WorkersSide, generate_in_turns
from mlx_suite_apps.cli.main import app
from tests.magpie.conftest import SMALL
from tests.magpie.random_checkpoint import write_checkpoint


def side(name: str, rounds: list[tuple[float, float]], rows: str = "a") -> WorkersSide:
    """A side by the seconds and CPU seconds of its rounds of 60 rows."""
    made = (WorkersRound(seconds=each, cpu_seconds=used, decided=60, rows=rows) for each, used in rounds)
    return WorkersSide(name=name, rounds=tuple(made))


ALONE = side("1 process", [(10.0, 12.0), (20.0, 24.0), (12.0, 12.0)])
SEVERAL = side("2 processes", [(8.0, 12.0), (10.0, 15.0), (9.0, 12.0)])
COMPARISON = WorkersComparison(alone=ALONE, several=SEVERAL, processes=2, cores=2, load=0.1)


def test_the_speed_up_is_the_median_over_rounds_and_the_idle_cores_bound_it() -> None:
    assert [ALONE.seconds, ALONE.cores, ALONE.cpu_seconds, ALONE.rows_per_second] == [12.0, 1.2, 12.0, 5.0]
    assert COMPARISON.speed_up == pytest.approx(12 / 9)
    assert COMPARISON.bound == pytest.approx(2 / 1.2)
    assert COMPARISON.work == 1.0
    assert COMPARISON.same_rows
    other = side("2 processes", [(8.0, 12.0)], rows="b")
    assert not WorkersComparison(alone=ALONE, several=other, processes=2, cores=2, load=0.1).same_rows


def test_the_command_prints_both_sides_and_why_it_is_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_suite_apps.bench.workers.compare_workers", lambda *_: COMPARISON)

    def run(*arguments: str) -> str:
        return CliRunner().invoke(app, ["bench", "workers", *arguments], catch_exceptions=False).stdout

    lines = run().splitlines()
    assert lines[1].split() == ["1", "process", "12.0", "5.00", "1.20", "12.0"]
    assert lines[2].split() == ["2", "processes", "9.0", "6.67", "1.50", "12.0"]
    assert " ".join(" ".join(lines[3:]).split()) == (
        "speed-up 1.33x, the same bytes. One process alone keeps 1.20 of 2 cores busy, so 1.67x is the bound for equal "
        "work; the work is 1.00x."
    )
    assert json.loads(run("--json"))["speed_up"] == 1.33

    busy = replace(COMPARISON, load=3.0)
    monkeypatch.setattr("mlx_suite_apps.bench.workers.compare_workers", lambda *_: busy)
    assert " ".join(run().split()).endswith(
        "work is 1.00x. The machine was busy (load 3.0): only the CPU seconds can be relied on."
    )


class Turns:
    """TurnOrder whose turns start immediately."""

    def __init__(self) -> None:
        self.reports: list[Any] = []

    def wait(self) -> None:
        pass

    def report(self, result: Any) -> None:
        self.reports.append(result)


def test_every_turn_generates_the_same_rows_in_a_new_folder(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    settings = MagpieSettings(**{**SMALL, "count": 10, "batch": 4, "tags": False})
    turns = Turns()
    generate_in_turns(
        WorkersJob(checkpoint=str(checkpoint), out=str(tmp_path / "out"), settings=settings, rounds=2), turns
    )

    warm_up, *timed = turns.reports
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0", "1", "2"]
    assert warm_up.decided < timed[0].decided == timed[1].decided
    assert warm_up.rows != timed[0].rows == timed[1].rows
