"""`mlx-suite bench duplicates`."""

import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mlx_suite_apps.bench.duplicates import DuplicateCost
from mlx_suite_apps.cli.bench_duplicates import duplicates

app = typer.Typer()
app.command()(duplicates)


def test_json_has_every_stage() -> None:
    result = CliRunner().invoke(app, ["--rows", "60", "--json"], catch_exceptions=False)
    report = json.loads(result.stdout)
    assert report["rows"] == 60
    exact, lexical, cosine = report["stages"]
    assert [exact["name"], lexical["name"], cosine["name"]] == ["exact", "lexical", "cosine"]
    assert exact["duplicates"] <= lexical["duplicates"]
    assert 0 < lexical["duplicates"] < 30 > cosine["duplicates"] > 0
    assert all(stage["timed"] == stage["naive_rows"] == 60 for stage in report["stages"])
    assert all(0 < stage["ratio"] < 10**9 for stage in report["stages"])


def test_the_stages_are_printed_as_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(stages: dict[str, Any], rows: int) -> list[DuplicateCost]:
        memory = {"resident_bytes": 302_000_000, "grown_bytes": 196_000_000}
        speed = {"rows_per_second": 16_000.0, "naive_rows": 1000, "naive_rows_per_second": 2.5}
        return [DuplicateCost(name=name, rows=rows, timed=1000, duplicates=3, **memory, **speed) for name in stages]

    monkeypatch.setattr("mlx_suite_apps.bench.duplicates.measure_stages", measured)
    lines = CliRunner().invoke(app, [], catch_exceptions=False).stdout.splitlines()
    assert lines[2].split() == ["lexical", "16,000", "302", "MB", "196", "MB", "2.50", "6,400x"]
    assert lines[4] == "100,000 rows; the naive baseline is extrapolated from all pairs of 1,000"
    assert lines[5] == "cosine: 1,000 look-ups, timed halfway, after 49,500 rows"
