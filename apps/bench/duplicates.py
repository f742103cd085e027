"""What telling duplicates costs while rows are made: look each row up, add it if it is new, one after the other.

Beside it the naive way, every row compared with every kept one: timed on the first rows, and carried forward, because
its cost per row grows with the rows there are. Each stage has a process of its own, so its memory is nobody else's.

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

from .trainers import resident_peak
from .turns import Turns, take_turns

NAIVE_ROWS = 1000
"""Rows on which the naive side is timed: half a million pairs."""
VOCABULARY = 20_000
MEDIAN_WORDS, SPREAD = 30, 0.8
"""Of the log-normal lengths of texts."""
SHORTEST, LONGEST = 4, 400
"""Words of a text."""
REPEATED = 0.2
"""Share of rows that are an earlier one with one word more or another word."""
CLOSE = 0.2
"""How far a repeated row's vector lies from the earlier one, as a share of its length."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One way to tell duplicates, and its naive counterpart."""

    items: Callable[[int], Iterable[Any]]
    """The first so many rows, as they are looked up."""
    is_duplicate: Callable[[int, Any], bool]
    """Looks a row up, and adds it if it is new."""
    add: Callable[[int, Any], None]
    """Adds a row without looking."""
    prepared: Callable[[Any], Any]
    """A row as the naive side compares it; made once for each and not timed."""
    is_same: Callable[[Any, Any], bool]
    """The naive side's comparison of a pair."""
    timed: int | None = None
    """Rows that are looked up, when half of all are added; None for all, from the first on."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a stage costs."""

    name: str
    rows: int
    """Rows in all."""
    timed: int
    """Rows that were looked up."""
    duplicates: int
    """Of those that were looked up."""
    rows_per_second: float
    """Looked up and added; the mean over a run with all rows."""
    resident_bytes: int
    """The most memory its process has held, the program and the rows themselves included."""
    grown_bytes: int
    """How much of that came since the rows were there."""
    naive_rows: int
    """Rows on which the naive side was timed."""
    naive_rows_per_second: float
    """Its mean over a run with all rows, carried forward from those."""

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.rows_per_second / self.naive_rows_per_second


@dataclass(frozen=True, kw_only=True)
class _Job:
    name: str
    make: Callable[[], Stage]
    rows: int


def measure_stages(stages: dict[str, Callable[[], Stage]], rows: int) -> Iterator[Cost]:
    """The cost of each stage with so many rows. What makes a stage must be a function of a module.

    Raises UserError with the last words of a stage that fails.
    """
    for name, make in stages.items():
        [cost] = take_turns({name: (_measure, _Job(name=name, make=make, rows=rows))}, turns=1)[name]
        yield cost


def _measure(job: _Job, turns: Turns) -> None:
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
    cost = Cost(
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
    """Of comparing every row with every earlier one, each pair in turn."""
    start = time.perf_counter()
    for number, item in enumerate(items):
        for earlier in items[:number]:
            is_same(item, earlier)
    return (time.perf_counter() - start) / max(1, len(items) * (len(items) - 1) // 2)


def instructions(rows: int, seed: int = 1) -> list[str]:
    """Texts of words that mean nothing, frequent ones and rare ones; about 40 words on average."""
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
    """Random vectors (D,), some of them close to the one before; made as they are needed."""
    rng = np.random.default_rng(seed)
    last = rng.standard_normal(dim, np.float32)
    for _ in range(rows):
        fresh = rng.standard_normal(dim, np.float32)
        last = last + CLOSE * fresh if rng.random() < REPEATED else fresh
        yield last


def _syllables(rng: random.Random) -> list[str]:
    return [rng.choice("bcdfghklmnprstvw") + rng.choice("aeiou") for _ in range(rng.randint(1, 4))]
