"""A task that two layers learn in a few steps: each token is the previous one plus the stride of its document."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from mlx_suite.data.batch.batches import PackedBatches
from mlx_suite.data.batch.rows import Document, Rows, pack
from mlx_suite.training.loop import TrainingResult, TrainSettings, train
from tests.modeling.tiny import tiny_model

VOCABULARY = 50
STEPS = 12


def toy_rows(documents: int = 60, seed: int = 0) -> Rows:
    """Documents of 5 to 14 tokens packed into rows of 24."""
    random = np.random.default_rng(seed)
    texts = []
    for _ in range(documents):
        start, stride = random.integers(0, VOCABULARY), random.integers(1, 4)
        texts.append([int(start + stride * i) % VOCABULARY for i in range(random.integers(5, 15))])
    return pack(map(Document.whole, texts), length=23)


def toy_batches(batch: int = 4) -> PackedBatches:
    return PackedBatches(toy_rows(), batch)


def toy_settings(steps: int = STEPS, **changes: object) -> TrainSettings:
    base = {"warmup": 3, "learning_rate": 3e-3, "save_every": 4, "log_every": 1, "seed": 3}
    return TrainSettings(**{"steps": steps, **base, **changes})  # type: ignore[arg-type]


def toy_model(family: str = "llama") -> nn.Module:
    return tiny_model(family, num_hidden_layers=2, tie_word_embeddings=True)


def train_toy(run: Path, steps: int = STEPS, family: str = "llama", batch: int = 4, **changes: Any) -> nn.Module:
    model = toy_model(family)
    train_in(run, model, batch, **{"steps": steps, **changes})
    return model


def train_in(run: Path, model: nn.Module, batch: int = 4, **changes: Any) -> TrainingResult:
    run.mkdir(parents=True, exist_ok=True)
    valid = PackedBatches(toy_rows(documents=8, seed=1), batch)
    group = changes.pop("group", None)
    return train(
        model, toy_batches(batch), toy_settings(**changes), run, valid=valid, identity={"data": "toy"}, group=group
    )


def weights(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in tree_flatten(model.parameters())}


def bits(run: Path) -> dict[str, bytes]:
    """The bytes of every array in a run's checkpoint, including optimizer state."""
    folder = run / "checkpoint"
    return {
        f"{name}/{key}": np.array(value).tobytes()
        for name in ("model", "optimizer")
        for key, value in mx.load(str(folder / f"{name}.safetensors")).items()
    }
