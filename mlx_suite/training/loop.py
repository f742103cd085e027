"""A plain training loop: packed rows in, a trained model out, at home after a kill.

Shapes: B rows of a batch, L positions.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_map

from mlx_suite.data.rows import Rows, batches
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import disk_errors, write_atomically
from mlx_suite.training.checkpoint import NAME, load_checkpoint, save_checkpoint
from mlx_suite.training.documents import document_caches
from mlx_suite.training.loss import mean_loss
from mlx_suite.training.schedule import WarmupCosine


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train. Batches are counted in rows, everything that is counted in time in optimizer steps."""

    steps: int
    horizon: int | None = None
    """Steps the cosine is laid out for, where a later phase takes over before its end; None means `steps`."""
    batch: int = 16
    """Rows per optimizer step."""
    learning_rate: float = 2e-3
    """Peak; high because the models are small."""
    warmup: int = 200
    floor: float = 0.02
    """The last step's learning rate as a share of the peak."""
    weight_decay: float = 0.1
    clip: float = 1.0
    """Largest norm of the whole gradient."""
    seed: int = 0
    streams: int = 1
    """Parts of a batch computed side by side; 2 pays on a CPU of two cores, where one stream leaves one idle."""
    save_every: int = 200
    log_every: int = 20


def make_optimizer(settings: TrainSettings) -> optim.Optimizer:
    """AdamW under a warm-up and a cosine."""
    schedule = WarmupCosine(
        peak=settings.learning_rate,
        steps=settings.horizon or settings.steps,
        warmup=settings.warmup,
        floor=settings.floor * settings.learning_rate,
    )
    return optim.AdamW(schedule, betas=[0.9, 0.95], weight_decay=settings.weight_decay, bias_correction=True)


def make_step(
    model: nn.Module, optimizer: optim.Optimizer, settings: TrainSettings
) -> Callable[[mx.array, mx.array, mx.array], mx.array]:
    """A compiled optimizer step: tokens and document (B, L + 1), weights (B, L) → the batch's mean loss."""
    layers = len(model.layers)
    streams = [mx.default_stream(mx.default_device())]
    # A part without rows would have a mean over nothing.
    streams += [mx.new_stream(mx.default_device()) for _ in range(min(settings.streams, settings.batch) - 1)]

    def loss(module: nn.Module, tokens: mx.array, document: mx.array, weights: mx.array) -> mx.array:
        logits = module(tokens[:, :-1], document_caches(document[:, :-1], layers))
        return mean_loss(logits, tokens[:, 1:], weights)

    loss_and_grad = nn.value_and_grad(model, loss)

    def parts(tokens: mx.array, document: mx.array, weights: mx.array) -> tuple[mx.array, Any]:
        """The batch's loss and gradient, its parts weighed by what they train."""
        total = weights.sum()
        losses, gradients = [], []
        for i, stream in enumerate(streams):
            rows = slice(i * tokens.shape[0] // len(streams), (i + 1) * tokens.shape[0] // len(streams))
            with mx.stream(stream):
                value, gradient = loss_and_grad(model, tokens[rows], document[rows], weights[rows])
                weight = weights[rows].sum() / total
                losses.append(value * weight)
                gradients.append(tree_map(lambda g, w=weight: g * w, gradient))
        return sum(losses[1:], losses[0]), tree_map(lambda *gs: sum(gs[1:], gs[0]), *gradients)

    state = [model.state, optimizer.state]

    def step(tokens: mx.array, document: mx.array, weights: mx.array) -> mx.array:
        value, gradient = parts(tokens, document, weights)
        gradient, _ = optim.clip_grad_norm(gradient, settings.clip)
        optimizer.update(model, gradient)
        return value

    return mx.compile(step, inputs=state, outputs=state)


def train(model: nn.Module, rows: Rows, settings: TrainSettings, run: Path) -> None:
    """Train `model` in place up to `settings.steps`, from the last checkpoint in `run` if there is one.

    Writes `run`/metrics.jsonl, without the lines of steps that a kill has undone: step, mean loss since the last
    line (nats per token), learning rate, trained tokens per second.

    Raises UserError where the rows do not fill a batch, the checkpoint in `run` cannot be used, the disk is full, or
    the loss is no longer a number.
    """
    if len(rows) < settings.batch:
        raise UserError(
            f"{len(rows)} rows do not fill a batch of {settings.batch}",
            where=str(run),
            fix="give more documents, or a smaller batch",
        )
    optimizer = make_optimizer(settings)
    optimizer.init(model.trainable_parameters())
    done = load_checkpoint(run, model, optimizer)
    step = make_step(model, optimizer, settings)
    weights = rows.target_weights
    log = run / "metrics.jsonl"
    write_atomically(log, "".join(line for line in _lines(log) if json.loads(line)["step"] <= done))
    losses: list[float] = []
    tokens, since = 0, time.perf_counter()
    for number, chosen in enumerate(batches(len(rows), settings.batch, settings.seed, start=done), start=done + 1):
        if number > settings.steps:
            break
        counted = weights[chosen]
        loss = step(mx.array(rows.tokens[chosen]), mx.array(rows.document[chosen]), mx.array(counted))
        mx.eval(loss, model.state, optimizer.state)
        losses.append(cast(float, loss.item()))
        tokens += int((counted > 0).sum())
        if not math.isfinite(losses[-1]):
            raise _diverged(losses[-1], number, run)
        if number % settings.log_every == 0 or number == settings.steps:
            line = {
                "step": number,
                "loss": round(sum(losses) / len(losses), 5),
                "learning_rate": round(float(optimizer.learning_rate), 7),
                "tokens_per_second": round(tokens / (time.perf_counter() - since)),
            }
            with disk_errors(log, kept="The last checkpoint is kept"), log.open("a") as file:
                file.write(json.dumps(line) + "\n")
            losses, tokens, since = [], 0, time.perf_counter()
        if number % settings.save_every == 0 or number == settings.steps:
            save_checkpoint(run, number, model, optimizer)


def _diverged(loss: float, number: int, run: Path) -> UserError:
    """What to do when a step has spoilt the weights; they were not saved."""
    held = (run / NAME).exists()
    return UserError(
        f"The loss became {loss} at step {number}. "
        + ("The last checkpoint is kept." if held else "Nothing was saved."),
        where=str(run),
        fix="start again in a new folder with a lower learning rate or a longer warm-up",
    )


def _lines(log: Path) -> list[str]:
    """The whole lines of a log; a kill may have torn the last one."""
    if not log.exists():
        return []
    return [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def parameter_count(model: nn.Module) -> int:
    """Parameters, a tied head counted once."""
    return sum(value.size for value in dict(tree_flatten(model.parameters())).values())
