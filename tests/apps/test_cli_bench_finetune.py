"""`mlx-suite bench finetune`: results of every trainer, as a table and as JSON."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.bench.finetuning import TrainerComparison, TrainerFigures
from mlx_suite_apps.bench.training_rows import TrainingRows
from mlx_suite_apps.cli.main import app


def run(*arguments: str | Path) -> str:
    return CliRunner().invoke(app, ["bench", "finetune", *map(str, arguments)], catch_exceptions=False).stdout


def side(trainer: str, speed: float, peak: int | None, counted: int = 1234) -> TrainerFigures:
    return TrainerFigures(
        trainer=trainer,
        tokens_per_second=speed,
        padding=0.125,
        steps=7,
        peak_bytes=peak,
        resident_bytes=3_000_000_000,
        counted=counted,
        loss=1.5,
    )


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainingRows, tuple[str, ...]]]:
    """Replace `compare` with a fake; returns the list of its arguments."""
    calls: list[tuple[TrainingRows, tuple[str, ...]]] = []

    def compare(model: Path, rows: TrainingRows, trainers: tuple[str, ...]) -> TrainerComparison:
        assert (model / "config.json").is_file()
        calls.append((rows, trainers))
        sides = (side("mlx-suite", 3000, 10**9), side("mlx-lm", 1000, 4 * 10**9, counted=1250), side("TRL", 2500, None))
        return TrainerComparison(rows=rows, trained=1234, loss_before=5.0, sides=sides[: len(trainers)])

    monkeypatch.setattr("mlx_suite_apps.bench.finetuning.compare", compare)
    monkeypatch.setattr(
        "mlx_suite_apps.bench.finetuning.present_trainers", lambda: ("mlx-suite", "mlx-lm", "TRL"), raising=True
    )
    return calls


def test_the_table_fits_60_columns_and_names_every_trainer(random_model: Path, compared: Any) -> None:
    lines = run(random_model).splitlines()
    assert max(map(len, lines[1:])) <= 60
    table = [line.split() for line in lines if line.startswith(("trainer", "mlx-suite", "mlx-lm", "TRL"))]
    assert table == [
        ["trainer", "tok/s", "pad", "steps", "MB", "RSS", "MB", "loss"],
        ["mlx-suite", "3,000", "12.5%", "7", "1,000", "3,000", "1.500"],
        ["mlx-lm", "1,000", "12.5%", "7", "4,000", "3,000", "1.500"],
        ["TRL", "2,500", "12.5%", "7", "3,000", "1.500"],
    ]
    flat = " ".join(" ".join(lines).split())
    assert flat.endswith(
        "speed 3.00x, memory 0.25x of mlx-lm's. A pass trains 1,234 tokens (1,250 by mlx-lm's count); held-out loss "
        "before training: 5.000"
    )


def test_batches_and_repeats_set_the_training_rows(random_model: Path, compared: Any) -> None:
    run(random_model, "--batches", "5", "--repeats", "2")
    run(random_model, "--quick")
    assert [(rows.rows, rows.repeats) for rows, _ in compared] == [(20, 2), (8, 1)]


def test_ours_may_pad_single_documents_as_the_others_do(random_model: Path, compared: Any) -> None:
    shown = run(random_model, "--batching", "bucket", "--longest", "64")
    assert "".join(shown.split()).startswith(f"{random_model},buckettrainer")
    assert [(rows.batching, rows.longest) for rows, _ in compared] == [("bucket", 64)]


def test_an_unknown_batching_is_refused(random_model: Path, compared: Any) -> None:
    with pytest.raises(UserError, match="--batching is 'rows'"):
        run(random_model, "--batching", "rows")


def test_wide_vocabularies_are_trained_on_few_long_rows_and_without_torch(compared: Any) -> None:
    run("wide-llama")
    [(rows, trainers)] = compared
    assert (rows.rows, rows.longest, trainers) == (16, 512, ("mlx-suite", "mlx-lm"))


def test_json_has_both_trainers_and_their_ratios(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_DISABLE_COMPILE", "1")
    monkeypatch.setattr("mlx_suite_apps.bench.finetuning.find_spec", lambda name: None)
    [report] = json.loads(run(random_model, "--quick", "--json"))
    assert [each["trainer"] for each in report["sides"]] == ["mlx-suite", "mlx-lm"]
    speeds = [each["tokens_per_second"] for each in report["sides"]]
    peaks = [each["peak_bytes"] for each in report["sides"]]
    assert report["speed_ratio"] == pytest.approx(speeds[0] / speeds[1], abs=1e-3)
    assert report["memory_ratio"] == pytest.approx(peaks[0] / peaks[1], abs=1e-3)
