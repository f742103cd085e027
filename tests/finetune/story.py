"""A small run for tests: 24 sums, a two-layer model with a character tokenizer, eight steps."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_suite.finetune.prepare import prepare
from mlx_suite.finetune.run import FinishedRun, RunCallbacks, finetune
from mlx_suite.finetune.settings import FinetuneSettings

STEPS = 8


def write_sums(path: Path, count: int = 24) -> Path:
    """Rows like {"instruction": "3 + 4", "output": "7"}."""
    rows = [{"instruction": f"{i % 7} + {i % 5}", "output": str(i % 7 + i % 5)} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sums_settings(model: Path, folder: Path, **changes: Any) -> FinetuneSettings:
    """Eight steps of two rows of 64 tokens, with an evaluation and a checkpoint every two steps."""
    data = folder / "sums.jsonl"
    if not data.exists():
        write_sums(data)
    given: dict[str, Any] = {
        "model": str(model),
        "data": str(data),
        "out": str(folder / "run"),
        "steps": STEPS,
        "batch": 2,
        "row_length": 64,
        "rank": 4,
        "learning_rate": 3e-3,
        "dropout": 0.1,
        "eval_every": 2,
        "save_every": 2,
        "log_every": 1,
        "valid_share": 0.2,
        "sample_tokens": 4,
    }
    return FinetuneSettings(**given | changes)


def run_sums(model: Path, folder: Path, callbacks: RunCallbacks | None = None, **changes: Any) -> FinishedRun:
    settings = sums_settings(model, folder, **changes)
    return finetune(settings, prepare(settings), callbacks=callbacks)


def log(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def bits(folder: Path) -> dict[str, bytes]:
    """Every array of the safetensors files in `folder`."""
    return {
        f"{file.name}/{name}": np.array(array.astype(mx.float32)).tobytes()
        for file in sorted(folder.glob("*.safetensors"))
        for name, array in mx.load(str(file)).items()  # type: ignore[union-attr]
    }
