"""Finetuning beside other trainers: trained tokens per second, padding, memory, and what was learned.

All begin with the same weights and the same adapter, see the same rows, and take turns, a pass over all rows each; the
medians are compared. The first pass is not timed: shapes are traced and kernels compiled in it. At the end all have
trained the same tokens equally often, and one exact evaluation judges every adapter.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.adapters.attach import apply_adapter, load_adapter, save_adapter, write_adapter
from mlx_suite.adapters.config import AdapterConfig
from mlx_suite.adapters.lora import add_adapters
from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.checkpoints.load import load_model
from mlx_suite.data.batch.rows import Document
from mlx_suite.training.loss import token_losses

from .torch_trainer import trl
from .trainers import Job, Pass, mlx_lm, ours
from .training_rows import TrainingRows, answer_tokens, make_documents
from .turns import take_turns

TRAINERS = {"mlx-suite": ours, "mlx-lm": mlx_lm, "TRL": trl}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one trainer has shown."""

    trainer: str
    tokens_per_second: float
    """Trained tokens, median over the timed passes."""
    padding: float
    """Share of the positions fed that hold no token of a document."""
    steps: int
    """Of a pass."""
    peak_bytes: int | None
    """Most memory MLX held at a time, the weights included. None for a trainer without MLX."""
    resident_bytes: int
    """Most memory the process held, the interpreter and its libraries included."""
    counted: int
    """Trained tokens of a pass as the trainer counts them itself."""
    loss: float
    """Of the held-out rows when all is trained, nats per token, by our evaluation without padding."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All trainers on the same rows. The first is ours, the second mlx-lm's."""

    rows: TrainingRows
    trained: int
    """Tokens that are trained in a pass: those of the answers."""
    loss_before: float
    sides: tuple[Figures, ...]

    @property
    def speed_ratio(self) -> float:
        """Our trained tokens per second over mlx-lm's."""
        return self.sides[0].tokens_per_second / self.sides[1].tokens_per_second

    @property
    def memory_ratio(self) -> float:
        """Our peak over mlx-lm's."""
        ours, theirs = self.sides[0].peak_bytes, self.sides[1].peak_bytes
        assert ours is not None and theirs is not None
        return ours / theirs


def present_trainers() -> tuple[str, ...]:
    """Ours, mlx-lm's, and TRL's where it, PEFT and torch are installed."""
    has_torch = all(find_spec(name) for name in ("torch", "trl", "peft"))
    return ("mlx-suite", "mlx-lm", "TRL") if has_torch else ("mlx-suite", "mlx-lm")


def compare(model: Path, rows: TrainingRows, trainers: Sequence[str] = ("mlx-suite", "mlx-lm")) -> Comparison:
    """Train an adapter on the model in the folder `model` with each of the trainers.

    Raises UserError where one of them fails.
    """
    assert rows.rows % rows.batch == 0, "mlx-lm would leave rows out"
    base = load_model(model)
    documents, held_out = make_documents(rows, read_config(model)["vocab_size"])
    loss_before = exact_loss(base, held_out)
    with TemporaryDirectory() as parent:
        start = Path(parent) / "start"
        config = AdapterConfig(rank=rows.rank, alpha=rows.scale * rows.rank)
        add_adapters(base, config, seed=rows.seed)
        save_adapter(start, base, config, base=str(model))
        write_adapter(start / "peft", load_adapter(start), layout="peft")
        del base
        works = {}
        for name in trainers:
            out = str(Path(parent) / name)
            job = Job(model=str(model), start=str(start), out=out, documents=documents, rows=rows)
            works[name] = (TRAINERS[name], job)
        passes = take_turns(works, rows.passes)
        losses = {name: _trained_loss(model, Path(parent) / name, held_out) for name in trainers}
    trained = sum(map(answer_tokens, documents))
    for name in trainers:
        assert all(each.trained == trained for each in passes[name]), f"{name} did not train the tokens of all rows"
    sides = tuple(_figures(name, passes[name], losses[name]) for name in trainers)
    return Comparison(rows=rows, trained=trained, loss_before=loss_before, sides=sides)


def exact_loss(model: nn.Module, documents: Sequence[Document]) -> float:
    """Mean nats per trained token, document by document, without padding."""
    total, count = 0.0, 0.0
    model.eval()
    for document in documents:
        tokens = mx.array(list(document.tokens))[None]
        weights = mx.array(list(document.weights[1:]))
        loss: Any = (token_losses(model(tokens[:, :-1]), tokens[:, 1:])[0] * weights).sum()
        total += loss.item()
        count += sum(document.weights[1:])
    return total / count


def _trained_loss(model: Path, adapter: Path, held_out: Sequence[Document]) -> float:
    trained = load_model(model)
    apply_adapter(trained, load_adapter(adapter))
    return exact_loss(trained, held_out)


def _figures(trainer: str, passes: Sequence[Pass], loss: float) -> Figures:
    timed = passes[1:]
    peaks = [each.peak_bytes for each in timed if each.peak_bytes is not None]
    return Figures(
        trainer=trainer,
        tokens_per_second=statistics.median(each.trained / each.seconds for each in timed),
        padding=1 - sum(each.held for each in timed) / sum(each.fed for each in timed),
        steps=timed[0].steps,
        peak_bytes=max(peaks, default=None),
        resident_bytes=max(each.resident_bytes for each in timed),
        counted=timed[0].counted,
        loss=loss,
    )
