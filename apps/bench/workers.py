"""Rows per second of a Magpie run with several workers, compared with one.

Both sides generate the same rows in turn, with one BLAS thread per process on a machine with as many cores as workers.
Cores in use are measured too: they bound the speed-up of the workers, since one process alone may use more than one
core.
"""

import hashlib
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx

from mlx_suite.loading import load
from mlx_suite.magpie.run import follow_dataset, make_dataset
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.runtime.container import PROCESSES, usable_cores
from mlx_suite.text import load_chat_template
from mlx_suite.training.process_group import join

from .turns import TurnOrder, take_turns

WARM_UP = 8
"""Accepted rows of the first turn, which compiles and is not timed."""
ALONE = "1 process"


@dataclass(frozen=True, kw_only=True)
class WorkersJob:
    """What each process does."""

    checkpoint: str
    """Folder of the checkpoint."""
    out: str
    """Folder in which each turn makes a run folder."""
    settings: MagpieSettings
    rounds: int


@dataclass(frozen=True, kw_only=True)
class WorkersRound:
    """One run."""

    seconds: float
    """From the first row to the last decision."""
    cpu_seconds: float
    """Of all processes together."""
    decided: int
    rows: str
    """Digest of both row files."""


@dataclass(frozen=True, kw_only=True)
class WorkersSide:
    """All timed runs with one number of processes."""

    name: str
    rounds: tuple[WorkersRound, ...]

    @property
    def seconds(self) -> float:
        """Median seconds of a run."""
        return statistics.median(each.seconds for each in self.rounds)

    @property
    def rows_per_second(self) -> float:
        """Decided rows per second, in the median run."""
        return self.rounds[0].decided / self.seconds

    @property
    def cores(self) -> float:
        """Cores in use on average, in the median run."""
        return statistics.median(each.cpu_seconds / each.seconds for each in self.rounds)

    @property
    def cpu_seconds(self) -> float:
        """Median seconds of computation per run."""
        return statistics.median(each.cpu_seconds for each in self.rounds)


@dataclass(frozen=True, kw_only=True)
class WorkersComparison:
    """One process and several."""

    alone: WorkersSide
    several: WorkersSide
    processes: int
    cores: int
    """Cores that may be used."""
    load: float
    """The machine's load average before the first run; on a busy machine only CPU seconds mean something."""

    @property
    def speed_up(self) -> float:
        """Median, over the rounds, of one process's seconds over those of several."""
        pairs = zip(self.alone.rounds, self.several.rounds, strict=True)
        return statistics.median(one.seconds / other.seconds for one, other in pairs)

    @property
    def bound(self) -> float:
        """The speed-up that the cores allow if the work stays the same."""
        return min(float(self.processes), self.cores / self.alone.cores)

    @property
    def work(self) -> float:
        """Computation with several processes over that of one: smaller batches, and rows that prove needless."""
        return self.several.cpu_seconds / self.alone.cpu_seconds

    @property
    def same_rows(self) -> bool:
        """Whether all runs ended with the same bytes."""
        return len({each.rows for side in (self.alone, self.several) for each in side.rounds}) == 1


def compare_workers(checkpoint: Path, settings: MagpieSettings, processes: int, rounds: int) -> WorkersComparison:
    """Run both sides in turn. Raises UserError if a run fails."""
    load = os.getloadavg()[0]
    names = {ALONE: 1, f"{processes} processes": processes}
    before = os.environ.get(PROCESSES)
    os.environ[PROCESSES] = str(max(processes, usable_cores()))
    try:
        with TemporaryDirectory() as parent:
            works = {
                name: (
                    generate_in_turns,
                    WorkersJob(checkpoint=str(checkpoint), out=f"{parent}/{count}", settings=settings, rounds=rounds),
                )
                for name, count in names.items()
            }
            found = take_turns(works, 1 + rounds, names)
    finally:
        del os.environ[PROCESSES]
        if before is not None:
            os.environ[PROCESSES] = before
    alone, several = (WorkersSide(name=name, rounds=tuple(each[1:])) for name, each in found.items())
    return WorkersComparison(alone=alone, several=several, processes=processes, cores=usable_cores(), load=load)


def generate_in_turns(job: WorkersJob, turns: TurnOrder) -> None:
    """One of the processes of a side: fill a folder at every turn, the first one with a few rows only."""
    group = join()
    checkpoint = Path(job.checkpoint)
    model, tokenizer = load(checkpoint)
    template = load_chat_template(checkpoint)
    for number in range(1 + job.rounds):
        settings = job.settings if number else replace(job.settings, count=min(WARM_UP, job.settings.count))
        folder = Path(job.out) / str(number)
        turns.wait()
        began, used = time.perf_counter(), time.process_time()
        summary = None
        if group.is_rank_zero:
            summary = make_dataset(model, tokenizer, template, settings, folder, group=group)
        else:
            follow_dataset(model, tokenizer, template, settings, folder, group)
        seconds, used = time.perf_counter() - began, time.process_time() - used
        all_used: Any = group.all_sum([mx.array(used)])[0].item()
        turns.report(
            None
            if summary is None
            else WorkersRound(
                seconds=seconds,
                cpu_seconds=float(all_used),
                decided=summary.decided,
                rows=_digest([summary.accepted_file, summary.rejected_file]),
            )
        )


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
