"""The nearest other row of each row of a sample: distances, and the pairs that are nearest of all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlx_suite.curation.dataset import instruction_of
from mlx_suite.curation.report.diversity import sample_rows
from mlx_suite.curation.report.lengths import Spread, spread_of
from mlx_suite.curation.report.nearest import COSINE, JACCARD, Similarities, cosines, jaccards, nearest_distances
from mlx_suite.curation.report.source import UnitVectors
from mlx_suite.curation.rows import Record

PAIRS = 5
"""Of the nearest that are shown."""


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Two rows and how far they are from each other."""

    distance: float
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class Neighbourhood:
    """One sample, by one kind of distance."""

    kind: str
    """COSINE or JACCARD; distances are 1 − that."""
    size: int
    """Rows of the sample."""
    distances: tuple[float, ...]
    """From each row to the nearest other one."""
    closest: tuple[Neighbours, ...]
    """The nearest first. A row stands in one pair only."""

    @property
    def spread(self) -> Spread | None:
        """The distances in short."""
        return spread_of(self.distances)


def neighbourhoods_of(rows: Sequence[Record], vectors: UnitVectors | None, size: int) -> tuple[Neighbourhood, ...]:
    """By meaning, where there are vectors, and by words, of the first of the samples that diversity is measured of."""
    chosen = sample_rows(len(rows), size)[0]
    texts = [instruction_of(rows[at]) for at in chosen]
    found = [_neighbourhood(JACCARD, jaccards(texts), texts)]
    if vectors is not None:
        found.insert(0, _neighbourhood(COSINE, cosines(vectors[chosen]), texts))
    return tuple(found)


def _neighbourhood(kind: str, similarities: Similarities, texts: Sequence[str]) -> Neighbourhood:
    others = similarities.copy()
    np.fill_diagonal(others, -np.inf)
    nearest = others.argmax(axis=1)
    distances = nearest_distances(similarities)
    seen: set[int] = set()
    closest: list[Neighbours] = []
    for row in np.argsort(distances, kind="stable").tolist():
        other = int(nearest[row])
        if not seen & {row, other}:
            seen |= {row, other}
            first, second = sorted((row, other))
            closest.append(
                Neighbours(distance=float(distances[row]), first=texts[first], second=texts[second]),
            )
        if len(closest) == PAIRS:
            break
    return Neighbourhood(kind=kind, size=len(texts), distances=tuple(map(float, distances)), closest=tuple(closest))
