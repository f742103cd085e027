"""Finetuning compared with other trainers: trained tokens per second, padding, peak memory, held-out loss.

All trainers start from the same weights and the same adapter, train on the same rows and alternate, one pass over all
rows each; medians are compared. The first pass compiles and is not timed. At the end every trainer has trained each
token equally often, and one padding-free evaluation scores all adapters.
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
from .training_rows import TrainingRows, make_documents
from .turns import take_turns

TRAINERS = {"mlx-suite": ours, "mlx-lm": mlx_lm, "TRL": trl}


@dataclass(frozen=True, kw_only=True)
class TrainerFigures:
    """Measurements of one trainer."""

    trainer: str
    tokens_per_second: float
    """Trained tokens per second, median over the timed passes."""
    padding: float
    """Share of fed positions that are padding."""
    steps: int
    """Optimizer steps per pass."""
    peak_bytes: int | None
    """MLX's peak memory, weights included; None for a trainer without MLX."""
    resident_bytes: int
    """Peak resident memory of the process."""
    counted: int
    """Trained tokens per pass by the trainer's own count."""
    loss: float
    """Held-out loss after training, in nats per token, by our padding-free evaluation."""


@dataclass(frozen=True, kw_only=True)
class TrainerComparison:
    """All trainers on the same rows: ours first, mlx-lm's second."""

    rows: TrainingRows
    trained: int
    """Trained tokens per pass, which are those of the responses."""
    loss_before: float
    sides: tuple[TrainerFigures, ...]

    @property
    def speed_ratio(self) -> float:
        """Our trained tokens per second over mlx-lm's."""
        return self.sides[0].tokens_per_second / self.sides[1].tokens_per_second

    @property
    def memory_ratio(self) -> float:
        """Our peak memory over mlx-lm's."""
        ours, theirs = self.sides[0].peak_bytes, self.sides[1].peak_bytes
        assert ours is not None and theirs is not None
        return ours / theirs


def present_trainers() -> tuple[str, ...]:
    """Names of the trainers that can run: TRL only if trl, peft and torch are installed."""
    has_torch = all(find_spec(name) for name in ("torch", "trl", "peft"))
    return ("mlx-suite", "mlx-lm", "TRL") if has_torch else ("mlx-suite", "mlx-lm")


def compare(model: Path, rows: TrainingRows, trainers: Sequence[str] = ("mlx-suite", "mlx-lm")) -> TrainerComparison:
    """Train an adapter for the checkpoint in folder `model` with each trainer.

    Raises UserError if a trainer fails.
    """
    assert rows.rows % rows.batch == 0, "mlx-lm drops an incomplete batch"
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
        passes = take_turns(works, rows.passes, own_blas=["TRL"])
        losses = {name: _trained_loss(model, Path(parent) / name, held_out) for name in trainers}
    trained = sum(each.trained for each in documents)
    for name in trainers:
        assert all(each.trained == trained for each in passes[name]), f"{name} did not train the tokens of all rows"
    sides = tuple(_figures(name, passes[name], losses[name]) for name in trainers)
    return TrainerComparison(rows=rows, trained=trained, loss_before=loss_before, sides=sides)


def exact_loss(model: nn.Module, documents: Sequence[Document]) -> float:
    """Mean nats per trained token, one document at a time, without padding."""
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


def _figures(trainer: str, passes: Sequence[Pass], loss: float) -> TrainerFigures:
    timed = passes[1:]
    peaks = [each.peak_bytes for each in timed if each.peak_bytes is not None]
    return TrainerFigures(
        trainer=trainer,
        tokens_per_second=statistics.median(each.trained / each.seconds for each in timed),
        padding=1 - sum(each.held for each in timed) / sum(each.fed for each in timed),
        steps=timed[0].steps,
        peak_bytes=max(peaks, default=None),
        resident_bytes=max(each.resident_bytes for each in timed),
        counted=timed[0].counted,
        loss=loss,
    )
