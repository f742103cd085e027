"""Pretraining compared with a loop in torch: trained tokens per second and held-out loss of AdamW and of Muon.

All sides start from the same random weights, train on the same batches of microworld passages with the same learning
rates, and take turns, one round of steps each; medians are compared. The first round compiles and is not timed. At the
end all have trained on the same tokens, and each evaluates its own weights on the same held-out batches.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_flatten

from mlx_suite.checkpoints.load import build_model
from mlx_suite.data.batch.batches import Batch
from mlx_suite.hub.resolve import resolve
from mlx_suite.microworld.passages import sample_passage
from mlx_suite.microworld.population import make_population
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.pretrain.size import shape_of_size
from mlx_suite.text import load_tokenizer
from mlx_suite.training.loop import TrainSettings, make_optimizer
from mlx_suite.training.optimizers import SCHEDULES, ScheduleConfig
from mlx_suite.training.process_group import join
from mlx_suite.training.train_step import TrainStep

from .torch_pretrainer import torch_loop
from .turns import TurnOrder, resident_peak, take_turns

TOKENIZER = "tiny-llama3"
"""Shipped checkpoint whose tokenizer encodes the passages."""
OPTIMIZERS = ("adamw", "muon")
OURS, TORCH = "mlx-suite", "torch"
"""First word of the name of a side."""
RATE = 0.004
"""Peak learning rate: that of the size dial for small models. Muon's updates are scaled to those of AdamW."""
HELD_OUT = 4
"""Held-out batches."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class PretrainingWorkload:
    """Size of the model, of the batches, and of the run."""

    size: int = 4
    """The dial of `mlx-suite pretrain`: number of blocks."""
    vocabulary: int = 4096
    """Rows of the embedding, of which the tokenizer uses 2,048."""
    length: int = 256
    """Tokens per row."""
    batch: int = 8
    """Rows per step."""
    steps: int = 20
    """Steps per round."""
    rounds: int = 3
    """Timed rounds, after an untimed one."""
    processes: int = 1
    """Above 1, our side also runs in this many processes, each with a share of every batch."""
    seed: int = 0

    @property
    def all_steps(self) -> int:
        return self.steps * (1 + self.rounds)

    @property
    def round_tokens(self) -> int:
        return self.steps * self.batch * self.length

    @property
    def shape(self) -> dict[str, Any]:
        """config.json of the model."""
        return shape_of_size(self.size) | {"vocab_size": self.vocabulary, "max_position_embeddings": self.length}


@dataclass(frozen=True, kw_only=True)
class PretrainingJob:
    """Input of one side."""

    workload: PretrainingWorkload
    optimizer: str
    """adamw or muon."""
    weights: str
    """File with the initial weights, .npz, under Hugging Face's names."""
    rows: Rows
    """(steps, B, L + 1) tokens."""
    held_out: Rows
    rates: Sequence[float]
    """Learning rate of each step."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """One turn of a side."""

    seconds: float
    loss: float
    """Mean training loss of its steps."""
    held_out: float
    """Held-out loss after it, not timed."""
    resident_bytes: int
    """Peak of resident memory, of all processes of the side together."""


@dataclass(frozen=True, kw_only=True)
class PretrainingFigures:
    """Measurements of one side."""

    side: str
    optimizer: str
    tokens_per_second: float
    """Median over the timed rounds."""
    slowest: float
    fastest: float
    """Tokens per second of the slowest and the fastest round."""
    loss: float
    """Held-out loss after all rounds, in nats per token."""
    resident_bytes: int


@dataclass(frozen=True, kw_only=True)
class PretrainingComparison:
    """All sides on the same batches."""

    workload: PretrainingWorkload
    parameters: int
    tokens: int
    """Trained tokens of each side, all rounds together."""
    sides: tuple[PretrainingFigures, ...]

    def ratios(self) -> dict[str, float]:
        """Tokens per second of each of our sides over torch's with the same optimizer; empty without torch."""
        theirs = {side.optimizer: side.tokens_per_second for side in self.sides if side.side.startswith(TORCH)}
        return {
            side.side: side.tokens_per_second / theirs[side.optimizer]
            for side in self.sides
            if side.side.startswith(OURS) and side.optimizer in theirs
        }


def compare(workload: PretrainingWorkload) -> PretrainingComparison:
    """Train on every side. Torch runs if it is installed. Raises UserError if a side fails."""
    rows, held_out = make_rows(workload)
    config = ModelConfig.from_dict(workload.shape)
    mx.random.seed(workload.seed)
    weights = dict(tree_flatten(build_model(config).parameters()))
    works: dict[str, tuple[Any, PretrainingJob]] = {}
    processes: dict[str, int] = {}
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "weights.npz")
        mx.savez(path, **weights)
        rates = learning_rates(RATE, workload.all_steps)
        for optimizer in OPTIMIZERS:
            job = PretrainingJob(
                workload=workload, optimizer=optimizer, weights=path, rows=rows, held_out=held_out, rates=rates
            )
            works[f"{OURS} {optimizer}"] = (ours, job)
            if workload.processes > 1:
                together = f"{OURS} {optimizer}, {workload.processes} processes"
                works[together] = (ours, job)
                processes[together] = workload.processes
            if find_spec("torch"):
                works[f"{TORCH} {optimizer}"] = (torch_loop, job)
        own_blas = [name for name in works if name.startswith(TORCH)]
        rounds = take_turns(works, 1 + workload.rounds, processes, own_blas)
    return PretrainingComparison(
        workload=workload,
        parameters=sum(array.size for array in weights.values()),
        tokens=workload.round_tokens * (1 + workload.rounds),
        sides=tuple(figures(name, works[name][1], each) for name, each in rounds.items()),
    )


def ours(job: PretrainingJob, turns: TurnOrder) -> None:
    """Train with our compiled step; the time includes making the batches.

    In one of several processes, train on every `size`-th row of each batch, as `mlx-suite pretrain` does.
    """
    from mlx_suite.runtime.device import device, set_limits

    set_limits(device())
    group = join()
    workload, weights = job.workload, mx.load(job.weights)
    assert isinstance(weights, dict)
    model = build_model(ModelConfig.from_dict(workload.shape))
    model.load_weights(list(weights.items()))
    settings = TrainSettings(
        steps=workload.all_steps,
        optimizer=job.optimizer,
        learning_rate=RATE,
        schedule="wsd",
        warmup=warmup_of(workload.all_steps),
        floor=0.0,
    )
    train_step = TrainStep(model, make_optimizer(settings), clip=settings.clip, group=group)
    for number in range(1 + workload.rounds):
        turns.wait()
        losses = []
        start = time.perf_counter()
        for rows in job.rows[number * workload.steps : (number + 1) * workload.steps]:
            batch = as_batch(rows[group.rank :: group.size])
            losses.append(train_step.run([batch], rows[:, 1:].size, seed=0)[0])
        seconds = time.perf_counter() - start
        resident: Any = group.all_sum([mx.array(float(resident_peak()))])[0].item()
        turns.report(
            Round(
                seconds=seconds,
                loss=float(np.mean([np.array(loss) for loss in losses])),
                held_out=train_step.mean_loss(map(as_batch, job.held_out)),
                resident_bytes=int(resident),
            )
        )


def as_batch(rows: Rows) -> Batch:
    """Rows (B, L + 1) with a loss on all tokens."""
    count = rows[:, 1:].size
    return Batch(
        tokens=rows[:, :-1].astype(np.uint32),
        document=None,
        index=np.arange(count, dtype=np.int32),
        targets=rows[:, 1:].reshape(-1).astype(np.int32),
        weights=np.ones(count, np.float32),
    )


def make_rows(workload: PretrainingWorkload) -> tuple[Rows, Rows]:
    """(training, held-out) batches of passages, a function of the seed."""
    tokenizer = load_tokenizer(resolve(TOKENIZER))
    population = make_population(2000, seed=workload.seed)
    rng = Random(workload.seed)
    steps = workload.all_steps + HELD_OUT
    needed = steps * workload.batch * workload.length + 1
    stream: list[int] = []
    while len(stream) < needed:
        texts = [sample_passage(population, rng).text for _ in range(256)]
        for ids in tokenizer.encode_batch(texts):
            stream += [tokenizer.bos_id or 0, *ids, tokenizer.eos_id or 0]
    starts = np.arange(steps * workload.batch) * workload.length
    rows = np.array(stream[:needed])[starts[:, None] + np.arange(workload.length + 1)]
    batches = rows.reshape(steps, workload.batch, workload.length + 1)
    return batches[:-HELD_OUT], batches[-HELD_OUT:]


def learning_rates(peak: float, steps: int) -> list[float]:
    """Learning rate of each step: warm-up, constant, linear decay to 0."""
    schedule = SCHEDULES["wsd"](ScheduleConfig(peak=peak, steps=steps, warmup=warmup_of(steps)))
    return [float(np.array(schedule(mx.array(step)))) for step in range(steps)]


def warmup_of(steps: int) -> int:
    """Steps of warm-up."""
    return max(1, steps // 20)


def figures(side: str, job: PretrainingJob, rounds: Sequence[Round]) -> PretrainingFigures:
    """Summarise the rounds of a side, without the first."""
    speeds = [job.workload.round_tokens / each.seconds for each in rounds[1:]]
    return PretrainingFigures(
        side=side,
        optimizer=job.optimizer,
        tokens_per_second=statistics.median(speeds),
        slowest=min(speeds),
        fastest=max(speeds),
        loss=rounds[-1].held_out,
        resident_bytes=max(each.resident_bytes for each in rounds),
    )
