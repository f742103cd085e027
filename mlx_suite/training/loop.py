"""The training loop: batches in, a trained model out, at home after a kill.

Everything a step depends on (its rows, its random numbers, its learning rate) is a function of the step's number, so
a run that was stopped goes on as if nothing had happened.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

from mlx_suite.data.batch.batches import Batch, Batches, share
from mlx_suite.runtime.errors import UserError
from mlx_suite.training.checkpoint import State, load_checkpoint, read_state, save_checkpoint
from mlx_suite.training.interrupt import interruption
from mlx_suite.training.log import append_line, cut_log
from mlx_suite.training.optimizers import OPTIMIZERS
from mlx_suite.training.process_group import ProcessGroup, lost_process
from mlx_suite.training.schedule import SCHEDULES, Course
from mlx_suite.training.train_step import TrainStep


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train. What is counted in time is counted in optimizer steps."""

    steps: int
    horizon: int | None = None
    """Steps the schedule is laid out for, where a later phase takes over before its end; None means `steps`."""
    accumulate: int = 1
    """Batches whose gradients make one step."""
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    """Peak."""
    schedule: str = "cosine"
    warmup: int = 200
    floor: float = 0.02
    """Where the learning rate ends, behind the last step, as a share of the peak."""
    weight_decay: float = 0.1
    clip: float = 1.0
    """Largest norm of the whole gradient; 0 for any."""
    seed: int = 0
    save_every: int = 200
    log_every: int = 20
    eval_every: int = 0
    """Steps between two evaluations; 0 for none."""
    patience: int = 0
    """Evaluations without a better loss after which training ends early; 0 for never."""


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """What a caller wants to be told while it runs. Only the first of several processes tells."""

    line: Callable[[Mapping[str, Any]], None] = lambda line: None
    """A line of the log, also kept in metrics.jsonl."""
    step: Callable[[int, float, int], None] = lambda step, loss, trained: None
    """A step is done: its number, its loss, its trained tokens."""
    evaluated: Callable[[int, bool], None] = lambda step, best: None
    """An evaluation is done: the step, and whether it is the best so far."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a run has ended."""

    state: State
    stopped: bool = False
    """Whether it was asked to stop before its end; the same call goes on."""


def train(
    model: nn.Module,
    batches: Batches,
    settings: TrainSettings,
    run: Path,
    *,
    valid: Batches | None = None,
    identity: Mapping[str, Any] | None = None,
    callbacks: Callbacks | None = None,
    group: ProcessGroup | None = None,
) -> TrainingResult:
    """Train what is trainable in `model` up to `settings.steps`, from the last checkpoint in `run` if there is one.

    Writes `run`/checkpoint and `run`/metrics.jsonl: lines of kind "train" with the step, epochs, mean loss since the
    last line (nats per token), learning rate, norm of the gradient, trained tokens, their number per second and peak
    memory in bytes; of kind "valid" with the step and the mean loss of `valid`. Lines of steps that a kill has undone
    are taken out again.

    Raises UserError where the checkpoint in `run` cannot be used or was begun with another `identity`, the disk is
    full, the loss is no longer a number, or another process is lost.
    """
    group = group or ProcessGroup()
    train_step = TrainStep(model, make_optimizer(settings), settings.clip, group)
    state = load_checkpoint(run, train_step, identity or {}) if group.is_rank_zero else State()
    with lost_process(run, lambda: _saved_step(run)):
        state = _as_the_first(train_step, state, group)
        loop = _Loop(train_step, batches, valid, settings, run, callbacks or Callbacks(), group, state)
        return loop.run_to_the_end()


def make_optimizer(settings: TrainSettings) -> optim.Optimizer:
    """The optimizer under its schedule."""
    course = Course(
        peak=settings.learning_rate,
        steps=settings.horizon or settings.steps,
        warmup=settings.warmup,
        floor=settings.floor * settings.learning_rate,
    )
    return OPTIMIZERS[settings.optimizer](SCHEDULES[settings.schedule](course), settings.weight_decay)


def steps_per_epoch(batches: Batches, accumulate: int) -> int:
    """Optimizer steps of one pass over everything; the last may have fewer batches than the others."""
    return -(-batches.per_epoch // accumulate)


@dataclass
class _Loop:
    """The variables of one call of `train`."""

    train_step: TrainStep
    batches: Batches
    valid: Batches | None
    settings: TrainSettings
    folder: Path
    callbacks: Callbacks
    group: ProcessGroup
    state: State
    trained_since: int = 0
    since: float = field(default_factory=time.perf_counter)

    def run_to_the_end(self) -> TrainingResult:
        if self.group.is_rank_zero:
            cut_log(self.folder, self.state.step)
        self._lose_patience()
        if self.state.step == 0 and self._evaluates:
            self._evaluate(0)
        with interruption() as asked:
            for number, chosen in self._steps():
                if self.state.ended_early:
                    break
                self._step(number, chosen)
                last = number == self.settings.steps
                if self._evaluates and (number % self.settings.eval_every == 0 or last):
                    self._evaluate(number)
                stop = self._agree(asked())
                if number % self.settings.save_every == 0 or last or stop or self.state.ended_early:
                    self._save()
                if stop and not last:
                    return TrainingResult(state=self.state, stopped=True)
        return TrainingResult(state=self.state)

    def _steps(self) -> Iterator[tuple[int, list[np.ndarray]]]:
        """The numbers of the steps that are left, each with the row numbers of its batches."""
        accumulate, number = self.settings.accumulate, self.state.step
        per_epoch = steps_per_epoch(self.batches, accumulate)
        while number < self.settings.steps:
            epoch, position = divmod(number, per_epoch)
            order = self.batches.order(self.settings.seed, epoch)
            for at in range(position, per_epoch):
                if number == self.settings.steps:
                    return
                number += 1
                yield number, order[at * accumulate : (at + 1) * accumulate]

    def _step(self, number: int, chosen: list[np.ndarray]) -> None:
        settings, group = self.settings, self.group
        whole = [self.batches.take(rows) for rows in chosen]
        mine = whole if group.size == 1 else [self._mine(rows) for rows in chosen]
        seed = (settings.seed * 1_000_003 + number) * 1009 + group.rank
        loss, norm = self.train_step.run(mine, sum(batch.total for batch in whole), seed % 2**63)
        value, length = (float(np.array(each)) for each in (loss, norm))
        if not (math.isfinite(value) and math.isfinite(length)):
            raise self._diverged("loss", value if math.isfinite(length) else length, number)
        trained = sum(batch.trained for batch in whole)
        self.trained_since += trained
        self.state = replace(
            self.state, step=number, tokens=self.state.tokens + trained, losses=(*self.state.losses, value)
        )
        if group.is_rank_zero:
            self.callbacks.step(number, value, trained)
        if number % settings.log_every == 0 or number == settings.steps:
            self._log(
                {
                    "kind": "train",
                    "step": number,
                    "epoch": round(number / steps_per_epoch(self.batches, settings.accumulate), 4),
                    "loss": round(sum(self.state.losses) / len(self.state.losses), 5),
                    "learning_rate": float(f"{float(self.train_step.optimizer.learning_rate):.6g}"),
                    "gradient_norm": float(f"{length:.5g}"),
                    "tokens": self.state.tokens,
                    "tokens_per_second": round(self.trained_since / (time.perf_counter() - self.since)),
                    "peak_bytes": mx.get_peak_memory(),
                }
            )
            self.state = replace(self.state, losses=())
            self.trained_since, self.since = 0, time.perf_counter()

    def _evaluate(self, number: int) -> None:
        """The mean loss of the validation rows; notes the best, and whether it is time to end."""
        assert self.valid is not None
        started = time.perf_counter()
        loss = self.train_step.mean_loss(map(self._mine_of_valid, self.valid.order(0, 0)))
        if number and not math.isfinite(loss):
            raise self._diverged("validation loss", loss, number)
        # A loss that is no number is never the best: nothing would be better than it ever after.
        best = math.isfinite(loss) and (self.state.best_loss is None or loss < self.state.best_loss)
        if best:
            self.state = replace(self.state, best_loss=loss, best_step=number, since_best=0)
        else:
            self.state = replace(self.state, since_best=self.state.since_best + 1)
        self._lose_patience()
        self._log({"kind": "valid", "step": number, "loss": round(loss, 5), "best": best})
        if self.group.is_rank_zero:
            self.callbacks.evaluated(number, best)
        # The speed of training is not that of looking at it.
        self.since += time.perf_counter() - started

    def _lose_patience(self) -> None:
        """Note whether it is time to end. Asked at the start too: a larger patience lets an ended run go on."""
        patience = self.settings.patience
        self.state = replace(self.state, ended_early=0 < patience <= self.state.since_best)

    @property
    def _evaluates(self) -> bool:
        return self.valid is not None and self.settings.eval_every > 0

    def _mine(self, rows: np.ndarray) -> Batch:
        return self.batches.take(share(rows, self.group.rank, self.group.size))

    def _mine_of_valid(self, rows: np.ndarray) -> Batch:
        assert self.valid is not None
        return self.valid.take(share(rows, self.group.rank, self.group.size))

    def _agree(self, asked: bool) -> bool:
        """Whether any process was asked to stop; all of them stop after the same step."""
        if self.group.size == 1:
            return asked
        return bool(self.group.all_sum([mx.array(float(asked))])[0].item())

    def _save(self) -> None:
        if self.group.is_rank_zero:
            save_checkpoint(self.folder, self.state, self.train_step)

    def _log(self, line: Mapping[str, Any]) -> None:
        if self.group.is_rank_zero:
            append_line(self.folder, line)
            self.callbacks.line(line)

    def _diverged(self, what: str, value: float, number: int) -> UserError:
        """What to do when a step has spoilt the weights; they were not saved."""
        state = read_state(self.folder)
        kept = "Nothing was saved." if state is None else f"The checkpoint of step {state.step} is kept."
        return UserError(
            f"The {what} became {value} at step {number}. {kept}",
            where=str(self.folder),
            fix="start again in a new folder with a lower learning rate or a longer warm-up",
        )


def _as_the_first(train_step: TrainStep, state: State, group: ProcessGroup) -> State:
    """Bring the other processes to where the first one stands: they may not see its folder."""
    if group.size == 1:
        return state
    numbers = [state.step, state.best_step, state.since_best, float(state.ended_early), state.best_loss or math.nan]
    told = np.array(group.broadcast([mx.array(numbers, dtype=mx.float32)])[0])
    parameters, moments = group.broadcast([train_step.master["parameters"], train_step.optimizer.state])
    train_step.restore(parameters)
    train_step.optimizer.state = moments
    mx.eval(train_step.model.parameters(), train_step.optimizer.state)
    if group.is_rank_zero:
        return state
    return State(
        step=int(told[0]),
        best_step=int(told[1]),
        since_best=int(told[2]),
        ended_early=bool(told[3]),
        best_loss=None if np.isnan(told[4]) else float(told[4]),
    )


def _saved_step(run: Path) -> int | None:
    """Of the last checkpoint that this process can see; a damaged one is named by whoever loads it."""
    try:
        state = read_state(run)
    except UserError:
        return None
    return None if state is None else state.step
