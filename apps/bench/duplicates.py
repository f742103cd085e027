"""Cost of online de-duplication: each row is looked up and, if it is new, added.

The baseline compares every row with every accepted one. It is timed on the first rows and extrapolated, since its cost
per row grows with the rows before it. Each stage runs in its own process, so memory is measured separately.

Shapes: N rows, D values of a vector.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from .turns import TurnOrder, resident_peak, take_turns

NAIVE_ROWS = 1000
"""Rows on which the baseline is timed: half a million pairs."""
VOCABULARY = 20_000
MEDIAN_WORDS, SPREAD = 30, 0.8
"""Median and log standard deviation of text lengths, in words; lengths are log-normal."""
SHORTEST, LONGEST = 4, 400
"""Bounds of a text's length, in words."""
REPEATED = 0.2
"""Share of rows that are an earlier row with one word added or replaced."""
CLOSE = 0.2
"""Distance of a near-duplicate's vector from the original, relative to the vector's norm."""


@dataclass(frozen=True, kw_only=True)
class BenchStage:
    """One duplicate index and its quadratic baseline."""

    items: Callable[[int], Iterable[Any]]
    """Makes the first N rows in the form the index takes."""
    is_duplicate: Callable[[int, Any], bool]
    """Looks a row up and adds it if it is new."""
    add: Callable[[int, Any], None]
    """Adds a row without a look-up."""
    prepared: Callable[[Any], Any]
    """Converts a row to the form the baseline compares; not timed."""
    is_same: Callable[[Any, Any], bool]
    """The baseline's comparison of two rows."""
    timed: int | None = None
    """Number of timed look-ups, in the middle of the run; None times every row."""


@dataclass(frozen=True, kw_only=True)
class DuplicateCost:
    """Speed and memory of one stage."""

    name: str
    rows: int
    """Number of rows in the run."""
    timed: int
    """Rows whose look-up was timed."""
    duplicates: int
    """Number of duplicates among the timed rows."""
    rows_per_second: float
    """Timed rows per second, look-up and insertion included."""
    resident_bytes: int
    """Peak resident memory of the process, interpreter and rows included."""
    grown_bytes: int
    """Growth of the process's peak memory after the rows were made."""
    naive_rows: int
    """Number of rows on which the baseline was timed."""
    naive_rows_per_second: float
    """Mean speed of the baseline, extrapolated to all rows."""

    @property
    def ratio(self) -> float:
        """Our rows per second over the baseline's."""
        return self.rows_per_second / self.naive_rows_per_second


@dataclass(frozen=True, kw_only=True)
class _Job:
    name: str
    make: Callable[[], BenchStage]
    rows: int


def measure_stages(stages: dict[str, Callable[[], BenchStage]], rows: int) -> Iterator[DuplicateCost]:
    """Measure each stage on `rows` rows. Factories must be module-level functions, for spawning.

    Raises UserError with the end of the traceback if a stage fails.
    """
    for name, make in stages.items():
        [cost] = take_turns({name: (_measure, _Job(name=name, make=make, rows=rows))}, turns=1)[name]
        yield cost


def _measure(job: _Job, turns: TurnOrder) -> None:
    turns.wait()
    stage = job.make()
    naive = islice(stage.items(job.rows), min(NAIVE_ROWS, job.rows))
    per_pair = _seconds_per_pair(list(map(stage.prepared, naive)), stage.is_same)
    items = stage.items(job.rows)
    before = resident_peak()
    timed = job.rows if stage.timed is None else min(stage.timed, job.rows)
    begin = (job.rows - timed) // 2
    seconds, duplicates = 0.0, 0
    for key, item in enumerate(items):
        if begin <= key < begin + timed:
            start = time.perf_counter()
            duplicates += stage.is_duplicate(key, item)
            seconds += time.perf_counter() - start
        else:
            stage.add(key, item)
    after = resident_peak()
    cost = DuplicateCost(
        name=job.name,
        rows=job.rows,
        timed=timed,
        duplicates=duplicates,
        rows_per_second=timed / seconds,
        resident_bytes=after,
        grown_bytes=after - before,
        naive_rows=min(NAIVE_ROWS, job.rows),
        naive_rows_per_second=1 / (per_pair * max(1, job.rows - duplicates * job.rows / timed) / 2),
    )
    turns.report(cost)


def _seconds_per_pair(items: Sequence[Any], is_same: Callable[[Any, Any], bool]) -> float:
    """Mean seconds of one comparison, over all pairs."""
    start = time.perf_counter()
    for number, item in enumerate(items):
        for earlier in items[:number]:
            is_same(item, earlier)
    return (time.perf_counter() - start) / max(1, len(items) * (len(items) - 1) // 2)


def instructions(rows: int, seed: int = 1) -> list[str]:
    """Texts of about 40 nonsense words whose frequencies follow a power law."""
    rng = random.Random(seed)
    vocabulary = ["".join(_syllables(rng)) for _ in range(VOCABULARY)]
    weights = list(accumulate(1 / (rank + 10) for rank in range(VOCABULARY)))
    texts: list[str] = []
    for _ in range(rows):
        if texts and rng.random() < REPEATED:
            found = rng.choice(texts).split()
            if rng.random() < 0.5:
                found.insert(0, "please")
            else:
                found[rng.randrange(len(found))] = rng.choice(vocabulary)
        else:
            length = max(SHORTEST, min(LONGEST, round(MEDIAN_WORDS * rng.lognormvariate(0, SPREAD))))
            found = rng.choices(vocabulary, cum_weights=weights, k=length)
        texts.append(" ".join(found))
    return texts


def directions(rows: int, dim: int, seed: int = 1) -> Iterator[npt.NDArray[np.float32]]:
    """Yield random vectors (D,), some of them close to the previous one."""
    rng = np.random.default_rng(seed)
    last = rng.standard_normal(dim, np.float32)
    for _ in range(rows):
        fresh = rng.standard_normal(dim, np.float32)
        last = last + CLOSE * fresh if rng.random() < REPEATED else fresh
        yield last


def _syllables(rng: random.Random) -> list[str]:
    return [rng.choice("bcdfghklmnprstvw") + rng.choice("aeiou") for _ in range(rng.randint(1, 4))]
