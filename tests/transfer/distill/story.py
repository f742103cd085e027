"""A small distillation for tests: 24 sums, two random models with a character tokenizer, six steps."""

from pathlib import Path
from typing import Any

from mlx_suite.finetune.prepare import prepare
from mlx_suite.finetune.run import FinishedRun, RunCallbacks
from mlx_suite.transfer.distill.run import distill
from mlx_suite.transfer.distill.settings import DistillSettings
from tests.finetune.story import write_sums

STEPS = 6


def distill_settings(student: Path, teacher: Path, folder: Path, **changes: Any) -> DistillSettings:
    """Six steps of two rows of 128 tokens, with an evaluation and a checkpoint every two steps."""
    data = folder / "sums.jsonl"
    if not data.exists():
        write_sums(data)
    given: dict[str, Any] = {
        "model": str(student),
        "teacher": str(teacher),
        "data": str(data),
        "out": str(folder / "run"),
        "steps": STEPS,
        "batch": 2,
        "row_length": 128,
        "rank": 4,
        "learning_rate": 3e-3,
        "eval_every": 2,
        "save_every": 2,
        "log_every": 1,
        "valid_share": 0.2,
        "sample_tokens": 4,
        "max_new_tokens": 6,
    }
    return DistillSettings(**given | changes)


def run_distill(
    student: Path, teacher: Path, folder: Path, callbacks: RunCallbacks | None = None, **changes: Any
) -> FinishedRun:
    settings = distill_settings(student, teacher, folder, **changes)
    return distill(settings, prepare(settings), callbacks=callbacks)
