"""Nearest rows: within a sample of one dataset, and between two datasets.

Shapes: N rows, d dimensions.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlx_suite.curation.dataset import instruction_of, response_of
from mlx_suite.curation.duplicates.lexical import LexicalIndex, shingles
from mlx_suite.curation.duplicates.words import folded, words
from mlx_suite.curation.report.counts import Quantiles, quantiles_of
from mlx_suite.curation.rows import Record

UnitVectors = npt.NDArray[np.float32]
Similarities = npt.NDArray[np.float32]
COSINE, JACCARD = "cosine", "Jaccard"
PAIRS = 5
"""Number of pairs shown, both of closest rows in a sample and of near-duplicates between datasets."""
SIZES = (100, 500, 2000)
"""Rows per sample, fixed so that reports can be compared."""
SAMPLES = 5
"""Maximum number of samples of one size."""
_FREQUENT = 32
"""Number of rows at which a shingle is counted by a matrix product instead of pair by pair."""


def sizes_for(rows: int) -> tuple[int, ...]:
    """Sample sizes for datasets of at least `rows` rows; `rows` itself if it is below the smallest size."""
    return tuple(size for size in SIZES if size <= rows) or ((rows,) if rows > 1 else ())


def sample_rows(count: int, size: int) -> list[list[int]]:
    """Up to SAMPLES disjoint samples of `size` out of `count` rows, always the same; each in ascending order."""
    # NumPy guarantees that the stream of this generator never changes.
    order = np.random.RandomState(count % 2**32).permutation(count)
    number = min(SAMPLES, count // size)
    return [sorted(order[size * each : size * (each + 1)].tolist()) for each in range(number)]


def cosines(vectors: UnitVectors) -> Similarities:
    """(N, d) unit vectors to (N, N) cosine similarities."""
    result: Similarities = np.clip(vectors @ vectors.T, -1.0, 1.0)
    return result


def jaccards(texts: Sequence[str]) -> Similarities:
    """(N, N) Jaccard similarities of the texts' shingles."""
    holders: dict[str, list[int]] = defaultdict(list)
    sizes = np.zeros(len(texts), np.float32)
    for number, text in enumerate(texts):
        # A text without words still equals itself.
        distinct = frozenset(shingles(words(text) or [" ".join(text.split())]))
        sizes[number] = len(distinct)
        for shingle in distinct:
            holders[shingle].append(number)
    shared = np.zeros((len(texts), len(texts)), np.float32)
    frequent = [rows for rows in holders.values() if len(rows) >= _FREQUENT]
    for rows in holders.values():
        if 1 < len(rows) < _FREQUENT:
            shared[np.ix_(rows, rows)] += 1
    incidence = np.zeros((len(texts), len(frequent)), np.float32)
    for column, rows in enumerate(frequent):
        incidence[rows, column] = 1
    shared += incidence @ incidence.T
    np.fill_diagonal(shared, sizes)
    similarities: Similarities = shared / (sizes[:, None] + sizes[None, :] - shared)
    return similarities


def nearest_distances(similarities: Similarities) -> npt.NDArray[np.float32]:
    """(N, N) to (N,): 1 − similarity of each row to the most similar other row. Empty for fewer than two rows."""
    if len(similarities) < 2:
        return np.zeros(0, np.float32)
    distances: npt.NDArray[np.float32] = np.maximum(1 - _without_self(similarities).max(axis=1), 0)
    return distances


def _without_self(similarities: Similarities) -> Similarities:
    others = similarities.copy()
    np.fill_diagonal(others, -np.inf)
    return others


# ---- within a sample


@dataclass(frozen=True, kw_only=True)
class ClosePair:
    """Two rows and the distance between them."""

    distance: float
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class Neighbourhood:
    """Nearest-row distances of one sample under one similarity."""

    kind: str
    """COSINE or JACCARD; a distance is 1 − similarity."""
    size: int
    """Rows in the sample."""
    distances: tuple[float, ...]
    """Distance of each row to the nearest other row."""
    closest: tuple[ClosePair, ...]
    """The closest pairs, in order; each row is in at most one."""

    @property
    def spread(self) -> Quantiles | None:
        """Quantiles of the distances."""
        return quantiles_of(self.distances)


def neighbourhoods_of(rows: Sequence[Record], vectors: UnitVectors | None, size: int) -> tuple[Neighbourhood, ...]:
    """Neighbourhoods in the first sample of `size` rows, by cosine (if there are vectors) and by Jaccard similarity."""
    chosen = sample_rows(len(rows), size)[0]
    texts = [instruction_of(rows[at]) for at in chosen]
    lexical = _neighbourhood(JACCARD, jaccards(texts), texts)
    return (lexical,) if vectors is None else (_neighbourhood(COSINE, cosines(vectors[chosen]), texts), lexical)


def _neighbourhood(kind: str, similarities: Similarities, texts: Sequence[str]) -> Neighbourhood:
    nearest = _without_self(similarities).argmax(axis=1)
    distances = nearest_distances(similarities)
    seen: set[int] = set()
    closest: list[ClosePair] = []
    for row in np.argsort(distances, kind="stable").tolist():
        other = int(nearest[row])
        if not seen & {row, other}:
            seen |= {row, other}
            first, second = sorted((row, other))
            closest.append(ClosePair(distance=float(distances[row]), first=texts[first], second=texts[second]))
        if len(closest) == PAIRS:
            break
    return Neighbourhood(kind=kind, size=len(texts), distances=tuple(map(float, distances)), closest=tuple(closest))


# ---- between two datasets


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """An instruction of dataset A and a near-duplicate in dataset B."""

    first: str
    second: str
    similarity: float
    """Jaccard similarity, from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Rows that two datasets share, counted in each of them."""

    exact: tuple[int, int]
    """Rows of A and rows of B whose instruction is also in the other dataset, ignoring case and whitespace."""
    near: tuple[int, int]
    """Rows without an exact match but with a near-duplicate in the other dataset."""
    whole: tuple[int, int]
    """Exact matches whose response is the same too."""
    pairs: tuple[SideBySide, ...]
    """Near-duplicates, the least similar first, to show how near "near" is."""


def overlap_of(first: Sequence[Record], second: Sequence[Record]) -> Overlap:
    """Compare every row with all rows of the other dataset."""
    texts = ([instruction_of(row) for row in first], [instruction_of(row) for row in second])
    keys = tuple([folded(text) for text in each] for each in texts)
    wholes = tuple(
        [(key, folded(response_of(row))) for key, row in zip(keys[side], rows, strict=True)]
        for side, rows in enumerate((first, second))
    )
    is_exact = tuple(_inside(keys[side], keys[1 - side]) for side in (0, 1))
    near = [_near_pairs(texts[side], is_exact[side], texts[1 - side]) for side in (0, 1)]
    return Overlap(
        exact=(sum(is_exact[0]), sum(is_exact[1])),
        near=(len(near[0]), len(near[1])),
        whole=(sum(_inside(wholes[0], wholes[1])), sum(_inside(wholes[1], wholes[0]))),
        pairs=tuple(sorted(near[0] or near[1], key=lambda pair: (pair.similarity, pair.first))[:PAIRS]),
    )


def _inside(keys: Sequence[object], others: Sequence[object]) -> list[bool]:
    known = set(others)
    return [key in known for key in keys]


def _near_pairs(texts: Sequence[str], is_exact: Sequence[bool], others: Sequence[str]) -> list[SideBySide]:
    index = LexicalIndex()
    for number, text in enumerate(others):
        index.add(number, text)
    pairs = []
    for text, known in zip(texts, is_exact, strict=True):
        match = None if known else index.find(text)
        if match is not None:
            pairs.append(SideBySide(first=text, second=others[match[0]], similarity=match[1]))
    return pairs
