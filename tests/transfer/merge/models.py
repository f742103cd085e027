"""Finetuned models without finetuning: a checkpoint with noise."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.save import save_model
from mlx_suite.checkpoints.weights import load_file, named_parameters


def near(base: Path | str, folder: Path, seed: int, size: float = 0.1, dtype: str | None = None) -> Path:
    """A copy of a checkpoint with noise added to every weight, half of it the same for all seeds."""
    model = load_model(base)
    before = named_parameters(model)
    for number in (0, seed):
        mx.random.seed(number)
        before = {name: array + size * mx.random.normal(array.shape) for name, array in before.items()}
    model.load_weights(list(before.items()))
    save_model(folder, model, dtype=dtype, tokenizer_from=base)
    return folder


def weights_of(folder: Path | str) -> dict[str, np.ndarray[Any, Any]]:
    """Every tensor of a checkpoint in fp32."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        arrays |= {name: np.array(array.astype(mx.float32)) for name, array in load_file(file).items()}
    return arrays


def differences(one: Path | str, other: Path | str) -> dict[str, float]:
    """Largest difference of each tensor; names that only one has are inf."""
    ours, theirs = weights_of(one), weights_of(other)
    return {
        name: float(np.abs(ours[name] - theirs[name]).max()) if name in ours and name in theirs else float("inf")
        for name in ours.keys() | theirs.keys()
    }
