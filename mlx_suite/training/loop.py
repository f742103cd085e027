"""The training loop: steps, evaluations, the log and checkpoints, with bit-exact resume.

Everything that a step depends on (its rows, its random numbers, its learning rate) is a function of its number, so an
interrupted run resumes as if it had never stopped.
"""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

from mlx_suite.data.batch.batches import Batch, Batches, Order, share
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import disk_errors, write_atomically
from mlx_suite.runtime.journal import read_lines
from mlx_suite.training.anchor import AnchoredLoss
from mlx_suite.training.checkpoint import State, load_checkpoint, read_state, save_checkpoint
from mlx_suite.training.optimizers import OPTIMIZERS, SCHEDULES, ScheduleConfig
from mlx_suite.training.process_group import ProcessGroup, lost_process
from mlx_suite.training.train_step import BatchLoss, TrainStep

LOG = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Training hyperparameters. Durations and intervals are in optimizer steps."""

    steps: int
    horizon: int | None = None
    """Length of the schedule, if training continues in another phase before its end; None means `steps`."""
    accumulate: int = 1
    """Gradient accumulation: batches per step."""
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    """Peak learning rate."""
    schedule: str = "cosine"
    warmup: int = 200
    floor: float = 0.02
    """Learning rate reached after the last step, as a fraction of the peak."""
    decay: float = 0.2
    """Fraction of the steps after warmup that the schedule wsd spends on its decay."""
    weight_decay: float = 0.1
    clip: float = 1.0
    """Maximum global gradient norm; 0 disables clipping."""
    seed: int = 0
    save_every: int = 200
    log_every: int = 20
    eval_every: int = 0
    """Steps between evaluations; 0 disables them."""
    patience: int = 0
    """Early stopping after this many evaluations without a better loss; 0 disables it."""
    average: float = 0.0
    """Rate of an exponential moving average of the trained parameters; 0 keeps none."""
    anchor: float = 0.0
    """Weight of the KL divergence from the model with these averaged parameters; 0 leaves it out."""


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Called during training, on rank 0 only."""

    line: Callable[[Mapping[str, Any]], None] = lambda line: None
    """Called with each log line, which is also appended to metrics.jsonl."""
    step: Callable[[int, float, int], None] = lambda step, loss, trained: None
    """Called after each step with its number, loss and number of target tokens."""
    evaluated: Callable[[int, bool], None] = lambda step, best: None
    """Called after each evaluation with the step and whether its loss is the best so far."""
    measured: Callable[[int, float], Mapping[str, Any]] = lambda step, loss: {}
    """Called with the step and the mean loss of each evaluation; returns further entries of its log line."""


Before = Callable[[int, Sequence[Order]], None]
"""Called by every rank before a step with its number and the rows of its batches, which it may still change."""


class DivergedError(UserError):
    """The loss or the gradient norm became NaN or inf."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """Result of `train`."""

    state: State
    stopped: bool = False
    """Whether it was interrupted before its last step; the same call resumes."""
    average: Any = None
    """The moving average of the trained parameters in fp32, as a tree; None without one."""


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
    loss: BatchLoss | None = None,
    before: Before = lambda step, rows: None,
) -> TrainingResult:
    """Train the trainable parameters of `model` up to `settings.steps`, resuming from a checkpoint in `run` if any.

    `loss` is the cross-entropy by default. What `before` does must be a function of the step and the weights.

    Writes `run`/checkpoint and `run`/metrics.jsonl. Log lines of kind "train" hold the step, epochs, mean loss since
    the previous line (nats per token), learning rate, gradient norm, target tokens so far, target tokens per second
    and peak memory in bytes; those of kind "valid" hold the step and the mean loss on `valid`. On resume, lines after
    the checkpoint's step are removed.

    Raises UserError if the checkpoint in `run` is unusable or has another `identity`, the disk is full, the loss is NaN
    or inf (DivergedError), or another process is lost.
    """
    group = group or ProcessGroup()
    train_step = TrainStep(model, make_optimizer(settings), settings.clip, group, loss)
    if settings.average:
        train_step.keep_average(settings.average)
        if settings.anchor:
            assert loss is None, "the anchor is added to the cross-entropy only"
            train_step.loss = AnchoredLoss(average=lambda: train_step.master["average"], beta=settings.anchor)
    state = load_checkpoint(run, train_step, identity or {}) if group.is_rank_zero else State()
    with lost_process(run, lambda: _saved_step(run)):
        state = _broadcast_state(train_step, state, group)
        return _Loop(train_step, batches, valid, settings, run, callbacks or Callbacks(), group, state, before).run()


def make_optimizer(settings: TrainSettings) -> optim.Optimizer:
    """The optimizer with its learning-rate schedule."""
    config = ScheduleConfig(
        peak=settings.learning_rate,
        steps=settings.horizon or settings.steps,
        warmup=settings.warmup,
        floor=settings.floor * settings.learning_rate,
        decay=settings.decay,
    )
    return OPTIMIZERS[settings.optimizer](SCHEDULES[settings.schedule](config), settings.weight_decay)


EVALUATIONS = 10
"""Usual number of evaluations in a run."""
MOST_UNSAVED = 200
"""Usual maximum of steps between checkpoints."""


def with_intervals(
    settings: TrainSettings, *, eval_every: int | None, save_every: int | None, log_every: int
) -> TrainSettings:
    """`settings` with the given intervals; None for the usual ones."""
    eval_every = eval_every or max(1, -(-settings.steps // EVALUATIONS))
    return replace(
        settings,
        eval_every=eval_every,
        save_every=save_every or min(eval_every, MOST_UNSAVED),
        log_every=min(log_every, max(1, settings.steps // 5)),
    )


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (run / LOG).read_text().splitlines()]


def steps_per_epoch(batches: Batches, accumulate: int) -> int:
    """Optimizer steps per epoch; the last one may have fewer batches."""
    return -(-batches.per_epoch // accumulate)


@dataclass
class _Loop:
    """One call of `train`."""

    train_step: TrainStep
    batches: Batches
    valid: Batches | None
    settings: TrainSettings
    folder: Path
    callbacks: Callbacks
    group: ProcessGroup
    state: State
    before: Before
    trained_since: int = 0
    """Target tokens since the last log line."""
    since: float = field(default_factory=time.perf_counter)
    """Time of the last log line, moved forward by the duration of evaluations."""

    def run(self) -> TrainingResult:
        if self.group.is_rank_zero:
            _truncate_log(self.folder, self.state.step)
        self._check_patience()
        if self.state.step == 0 and self._evaluates:
            self._evaluate(0)
        with _interruption() as interrupted:
            for number, chosen in self._steps():
                if self.state.ended_early:
                    break
                self._step(number, chosen)
                last = number == self.settings.steps
                if self._evaluates and (number % self.settings.eval_every == 0 or last):
                    self._evaluate(number)
                stop = self._any_rank(interrupted())
                if number % self.settings.save_every == 0 or last or stop or self.state.ended_early:
                    self._save()
                if stop and not last:
                    return TrainingResult(state=self.state, stopped=True)
        return TrainingResult(state=self.state, average=self.train_step.master.get("average"))

    def _steps(self) -> Iterator[tuple[int, list[np.ndarray]]]:
        """The remaining steps: number, and row indices of each of its batches."""
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
        self.before(number, chosen)
        whole = [self.batches.take(rows) for rows in chosen]
        mine = whole if group.size == 1 else [self._share(self.batches, rows) for rows in chosen]
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
        """Compute the validation loss; update the best loss and early stopping."""
        valid = self.valid
        assert valid is not None
        started = time.perf_counter()
        loss = self.train_step.mean_loss(self._share(valid, rows) for rows in valid.order(0, 0))
        if number and not math.isfinite(loss):
            raise self._diverged("validation loss", loss, number)
        # NaN is never the best loss: no later loss would compare as lower.
        best = math.isfinite(loss) and (self.state.best_loss is None or loss < self.state.best_loss)
        if best:
            self.state = replace(self.state, best_loss=loss, best_step=number, since_best=0)
        else:
            self.state = replace(self.state, since_best=self.state.since_best + 1)
        self._check_patience()
        further = self.callbacks.measured(number, loss) if self.group.is_rank_zero else {}
        self._log({"kind": "valid", "step": number, "loss": round(loss, 5), "best": best, **further})
        if self.group.is_rank_zero:
            self.callbacks.evaluated(number, best)
        # Evaluations do not count towards tokens per second.
        self.since += time.perf_counter() - started

    def _check_patience(self) -> None:
        """Update `ended_early`. Called at the start too, so that a larger patience resumes a run that ended early."""
        patience = self.settings.patience
        self.state = replace(self.state, ended_early=0 < patience <= self.state.since_best)

    @property
    def _evaluates(self) -> bool:
        return self.valid is not None and self.settings.eval_every > 0

    def _share(self, batches: Batches, rows: np.ndarray) -> Batch:
        """This rank's rows of a batch."""
        return batches.take(share(rows, self.group.rank, self.group.size))

    def _any_rank(self, interrupted: bool) -> bool:
        """Whether any process was interrupted, so that all stop after the same step."""
        if self.group.size == 1:
            return interrupted
        return bool(self.group.all_sum([mx.array(float(interrupted))])[0].item())

    def _save(self) -> None:
        if self.group.is_rank_zero:
            save_checkpoint(self.folder, self.state, self.train_step)

    def _log(self, line: Mapping[str, Any]) -> None:
        if self.group.is_rank_zero:
            log = self.folder / LOG
            with disk_errors(log, kept="The last checkpoint is kept"), log.open("a") as file:
                file.write(json.dumps(line) + "\n")
            self.callbacks.line(line)

    def _diverged(self, what: str, value: float, number: int) -> DivergedError:
        """The error for a NaN or inf loss. The weights of this step were not saved."""
        state = read_state(self.folder)
        kept = "Nothing was saved." if state is None else f"The checkpoint of step {state.step} is kept."
        return DivergedError(
            f"The {what} became {value} at step {number}. {kept}",
            where=str(self.folder),
            fix="start again in a new folder with a lower learning rate or a longer warmup",
        )


def _broadcast_state(train_step: TrainStep, state: State, group: ProcessGroup) -> State:
    """Send rank 0's state, parameters, average and moments to the other ranks, which may not see its folder."""
    if group.size == 1:
        return state
    numbers = [state.step, state.best_step, state.since_best, float(state.ended_early), state.best_loss or math.nan]
    received = np.array(group.broadcast([mx.array(numbers, dtype=mx.float32)])[0])
    master, moments = group.broadcast([train_step.master, train_step.optimizer.state])
    train_step.master.update(master)
    train_step.restore(master["parameters"])
    train_step.optimizer.state = moments
    mx.eval(train_step.model.parameters(), train_step.optimizer.state, train_step.master)
    if group.is_rank_zero:
        return state
    return State(
        step=int(received[0]),
        best_step=int(received[1]),
        since_best=int(received[2]),
        ended_early=bool(received[3]),
        best_loss=None if np.isnan(received[4]) else float(received[4]),
    )


def _saved_step(run: Path) -> int | None:
    """Step of the last checkpoint that this process can read; a damaged one is reported by `load_checkpoint`."""
    try:
        state = read_state(run)
    except UserError:
        return None
    return None if state is None else state.step


def _truncate_log(run: Path, step: int) -> None:
    """Remove the lines after `step`, whose steps will be repeated; at step 0, all lines."""
    log = run / LOG
    lines = read_lines(log, lambda line: (float(line["step"]), line), bad=[]) if log.exists() else ()
    kept = [line for at, line in lines if 0 < step and at <= step]
    write_atomically(log, "".join(json.dumps(line) + "\n" for line in kept))


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether SIGINT or SIGTERM has arrived; a second signal raises KeyboardInterrupt.

    The current step is finished and saved. Outside the main thread, where Python allows no signal handlers, the
    function always returns False.
    """
    interrupted = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: interrupted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
