"""Mixtures of tokenized corpora: how many rows of an epoch each part gets, in which order, and what that adds up to.

An epoch has as many rows as all parts together. A part's share of them is exactly its weight, to the nearest row, and
the parts alternate evenly, so every batch has these shares to within a row or so. Each part is read in passes: every
pass is a shuffle of all its rows, and an epoch goes on where the last one stopped, so nothing is left out and a small
part repeats. All this is a function of (weights, seed, epoch).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlx_suite.data.corpus.token_file import TokenFile

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class MixturePart:
    """One part of a mixture."""

    name: str
    file: TokenFile
    weight: float
    """Share of the tokens, relative to the weights of the other parts."""


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """What a run has read of one part."""

    name: str
    tokens: int
    """Target tokens, repetitions included."""
    share: float
    """Their share of the target tokens of all parts."""
    passes: float
    """How often the part has been read: 0.5 for half of it, 3.0 for three times."""


def natural_parts(files: Sequence[TokenFile]) -> tuple[MixturePart, ...]:
    """Parts weighted by their sizes, so that all are read equally often."""
    return tuple(MixturePart(name=file.name, file=file, weight=float(file.count)) for file in files)


def quotas(weights: Sequence[float], total: int) -> list[int]:
    """`total` rows by weight: rounded down, the rows that are left to the largest remainders.

    Every part with a weight gets at least one row if there are enough.
    """
    assert weights and all(weight >= 0 for weight in weights) and sum(weights) > 0
    exact = np.array(weights, float) * (total / sum(weights))
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    for number in np.flatnonzero((counts == 0) & (np.array(weights) > 0)):
        if counts.max() > 1:
            counts[counts.argmax()] -= 1
            counts[number] = 1
    return [int(count) for count in counts]


def mixed_order(rows: Sequence[int], counts: Sequence[int], seed: int, epoch: int) -> Numbers:
    """The rows of an epoch, those of all parts numbered consecutively.

    Args:
        rows: Rows of each part.
        counts: Rows that an epoch takes of each part, from `quotas`.
    """
    phases = np.random.default_rng([seed, epoch]).random(len(rows))
    firsts = np.concatenate([[0], np.cumsum(rows)[:-1]])
    taken, keys = [], []
    for part, (count, size) in enumerate(zip(counts, rows, strict=True)):
        if count:
            taken.append(rows_in_passes(size, epoch * count, count, seed, part) + firsts[part])
            keys.append((np.arange(count) + phases[part]) / count)
    order = np.argsort(np.concatenate(keys), kind="stable") if len(keys) > 1 else slice(None)
    return np.concatenate(taken)[order]


def rows_in_passes(size: int, start: int, count: int, seed: int, part: int) -> Numbers:
    """`count` rows of a part from the `start`-th on, in shuffled passes over its `size` rows."""
    first, last = start // size, max(start + count - 1, start) // size
    passes = [np.random.default_rng([seed, number, part]).permutation(size) for number in range(first, last + 1)]
    return np.concatenate(passes)[start - first * size :][:count]
