"""A small run for tests: forty rhymes, a two-layer model with one token per byte, eight steps."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_suite.pretrain.run import FinishedRun, RunCallbacks, pretrain
from mlx_suite.pretrain.settings import CorpusPart, PretrainSettings, TokenizerSource
from mlx_suite.training.process_group import ProcessGroup

STEPS = 8
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
}


def write_rhymes(path: Path, count: int = 40) -> Path:
    """Documents like "3 cats saw 4 rats"."""
    rows = [{"text": f"{i % 7} cats saw {i % 5} rats"} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rhyme_settings(letters: Path, folder: Path, **changes: Any) -> PretrainSettings:
    """Eight steps of four rows of 16 tokens, with an evaluation and a checkpoint every two steps."""
    data = folder / "rhymes.jsonl"
    if not data.exists():
        write_rhymes(data)
    given: dict[str, Any] = {
        "config": SHAPE,
        "tokenizer": TokenizerSource(checkpoint=str(letters)),
        "data": (CorpusPart(path=str(data)),),
        "out": str(folder / "run"),
        "steps": STEPS,
        "batch": 4,
        "length": 16,
        "learning_rate": 3e-3,
        "eval_every": 2,
        "save_every": 2,
        "log_every": 1,
        "sample_tokens": 4,
    }
    return PretrainSettings(**given | changes)


def run_rhymes(
    letters: Path,
    folder: Path,
    callbacks: RunCallbacks | None = None,
    group: ProcessGroup | None = None,
    **changes: Any,
) -> FinishedRun:
    return pretrain(rhyme_settings(letters, folder, **changes), callbacks=callbacks, group=group)


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
