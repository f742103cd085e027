"""`mlx-suite distill`: printed lines, the cache, JSON, errors."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mlx_suite.transfer.distill.settings import DistillSettings
from mlx_suite_apps.cli.distill import GROUPS
from mlx_suite_apps.cli.main import app
from mlx_suite_apps.cli.options import field_docs
from tests.apps.failures import stderr_of_failure
from tests.finetune.story import write_sums
from tests.magpie.random_checkpoint import write_checkpoint

SMALL = ["--steps", "2", "--batch", "2", "--rank", "2", "--eval-every", "1", "--sample-tokens", "4"]

pytestmark = pytest.mark.usefixtures("uncompiled")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A student and a teacher of one vocabulary."""
    folder = tmp_path_factory.mktemp("models")
    return write_checkpoint(folder / "student", letters="0123456789 +"), write_checkpoint(folder / "teacher", end=0.5)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["distill", *map(str, arguments)], catch_exceptions=False)


def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[str]:
    """Stderr lines of a program that exits with 2 and prints nothing to stdout."""
    return stderr_of_failure(monkeypatch, capsys, "distill", *arguments).splitlines()


def test_every_setting_has_a_flag() -> None:
    positional = {"model", "teacher", "data", "out", "prompts"}
    assert {name for names in GROUPS.values() for name in names} | positional == set(field_docs(DistillSettings))


def test_a_cache_is_made_and_used(models: tuple[Path, Path], tmp_path: Path) -> None:
    data = write_sums(tmp_path / "sums.jsonl")
    made = run(*models, data, "--make-cache", "--out", tmp_path / "cache")
    assert made.exit_code == 0
    assert "trained tokens" in made.stdout
    result = run(*models, data, "--cache", tmp_path / "cache", "--out", tmp_path / "run", *SMALL, "--json")
    assert result.exit_code == 0
    facts: dict[str, Any] = json.loads(result.stdout)
    assert facts["best_valid_loss"] <= facts["valid_loss_before"]
    state = json.loads((tmp_path / "run" / "checkpoint" / "state.json").read_text())
    assert len(state["identity"]["cache"]) == 12


def test_the_estimate_counts_the_teacher(models: tuple[Path, Path], tmp_path: Path) -> None:
    data = write_sums(tmp_path / "sums.jsonl")
    estimates = [
        json.loads(run(*models, data, "--estimate", "--json", *more).stdout)["estimate"]
        for more in ([], ["--cache", str(tmp_path)])
    ]
    assert [estimate["parts"]["teacher"] > 0 for estimate in estimates] == [True, False]
    assert estimates[0]["step_flops"] > estimates[1]["step_flops"]


def test_a_missing_teacher_and_wrong_settings_are_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], models: tuple[Path, Path]
) -> None:
    student, teacher = models
    assert fail(monkeypatch, capsys, student)[0] == "error: No data and no teacher is given"
    lines = fail(monkeypatch, capsys, student, teacher, "x.jsonl", "--objective", "reversed", "--on-policy", "2")
    assert lines[:3] == [
        "error: 2 settings are invalid",
        "       - objective is 'reversed': did you mean reverse?",
        "       - on_policy is 2.0: expected 0 to 1",
    ]
