"""`mlx-suite bench pretrain`: results of every side, as a table and as JSON."""

import json

import pytest
from typer.testing import CliRunner

from mlx_suite_apps.bench.pretraining import PretrainingComparison, PretrainingFigures, PretrainingWorkload
from mlx_suite_apps.cli.main import app


def run(*arguments: str) -> str:
    return CliRunner().invoke(app, ["bench", "pretrain", *arguments], catch_exceptions=False).stdout


@pytest.fixture
def workloads(monkeypatch: pytest.MonkeyPatch) -> list[PretrainingWorkload]:
    """Replace `compare` with a fake; returns the list of its arguments."""
    calls: list[PretrainingWorkload] = []
    speeds = {"mlx-suite adamw": 3000.0, "torch adamw": 2000.0, "mlx-suite muon": 2500.0, "torch muon": 2500.0}

    def compare(workload: PretrainingWorkload) -> PretrainingComparison:
        calls.append(workload)
        sides = tuple(
            PretrainingFigures(
                side=name,
                optimizer=name.split()[1],
                tokens_per_second=speed,
                slowest=speed - 100,
                fastest=speed + 100,
                loss=3.25,
                resident_bytes=10**9,
            )
            for name, speed in speeds.items()
        )
        return PretrainingComparison(workload=workload, parameters=4_000_000, tokens=160_000, sides=sides)

    monkeypatch.setattr("mlx_suite_apps.bench.pretraining.compare", compare)
    return calls


def test_the_table_names_every_side_and_the_ratios(workloads: list[PretrainingWorkload]) -> None:
    lines = run("--size", "6", "--batch", "4").splitlines()
    assert workloads == [PretrainingWorkload(size=6, batch=4)]
    assert lines[1].split() == ["mlx-suite", "adamw", "3,000", "2,900-3,100", "1,000", "3.250"]
    flat = " ".join(" ".join(lines).split())
    assert "speed over torch's: mlx-suite adamw 1.50x; mlx-suite muon 1.00x." in flat
    assert "4,000,000 parameters, 4 rows of 256 tokens per step; held-out loss after 160,000 tokens" in flat


def test_json_has_the_ratios(workloads: list[PretrainingWorkload]) -> None:
    facts = json.loads(run("--json", "--quick"))
    assert facts["ratios"] == {"mlx-suite adamw": 1.5, "mlx-suite muon": 1.0}
    assert [side["side"] for side in facts["sides"]][0] == "mlx-suite adamw"
    assert workloads[0].size == 1
