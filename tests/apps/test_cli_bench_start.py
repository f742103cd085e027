"""`mlx-suite bench start`: the phases of a start, on both sides."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.bench.start import StartTimes, compare_starts
from mlx_suite_apps.cli.main import app


def test_a_start_is_split_into_imports_load_and_first_token(random_model: Path) -> None:
    [ours] = compare_starts(str(random_model), "Why?", repeats=1, sides=["mlx-suite"])

    assert ours.side == "mlx-suite"
    assert list(ours.seconds) == list(ours.cpu_seconds) == ["imports", "load", "first token"]
    assert min(ours.seconds.values()) > 0


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mlx-suite could not generate"):
        compare_starts(str(tmp_path), "Why?", repeats=1)


def test_both_sides_and_their_ratio_are_printed(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(folder: str, prompt: str, repeats: int) -> list[StartTimes]:
        assert (folder, prompt, repeats) == (str(random_model), "Why?", 2)
        ours = {"imports": 0.5, "load": 0.25, "first token": 0.25}
        theirs = {"imports": 1.5, "load": 0.25, "first token": 0.25}
        return [
            StartTimes(side="mlx-suite", seconds=ours, cpu_seconds=ours),
            StartTimes(side="mlx-lm", seconds=theirs, cpu_seconds=ours),
        ]

    monkeypatch.setattr("mlx_suite_apps.bench.start.compare_starts", measured)
    command = ["bench", "start", str(random_model), "--prompt", "Why?", "--repeats", "2"]

    printed = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    facts = json.loads(CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False).stdout)

    assert "ours / mlx-lm: 0.50x, CPU 1.00x" in printed
    assert [side["side"] for side in facts["sides"]] == ["mlx-suite", "mlx-lm"]
    assert facts["ratio"] == 0.5
