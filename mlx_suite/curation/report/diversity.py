"""How different the instructions of a dataset are from each other, at an equal number of rows.

More rows lie nearer to each other and repeat more words, so every measure here is taken of samples of a fixed size.
The samples share no rows; with two or more of them the spread between samples is known.

    distinct-n          Li et al., arXiv 1510.03055
    compression ratio   Shaib et al., arXiv 2403.00553
    Vendi score         Friedman and Dieng, arXiv 2210.02410; of order 2, Pasarkar and Dieng, arXiv 2310.12952

Shapes: N rows, d dimensions.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlx_suite.curation.dataset import instruction_of
from mlx_suite.curation.duplicates.lexical import NEAR_DUPLICATE, LexicalIndex
from mlx_suite.curation.duplicates.words import folded, words
from mlx_suite.curation.report.labels import label_of
from mlx_suite.curation.report.nearest import cosines, jaccards, nearest_distances
from mlx_suite.curation.report.source import UnitVectors
from mlx_suite.curation.rows import Record

SIZES = (100, 500, 2000)
"""Rows of a sample. Always the same, so that the figures of two reports can be compared."""
SAMPLES = 5
"""At most, of each size."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What is measured."""

    title: str
    meaning: str
    form: str
    """How a value is written, for `format`."""


MEASURES: Mapping[str, Measure] = {
    "words": Measure(title="words", meaning="of an instruction, on the average", form=".1f"),
    "distinct_1": Measure(title="distinct-1", meaning="different words among all", form=".1%"),
    "distinct_2": Measure(title="distinct-2", meaning="different pairs of words among all", form=".1%"),
    "distinct_3": Measure(title="distinct-3", meaning="different runs of three words among all", form=".1%"),
    "exact_repeats": Measure(title="exact repeats", meaning="rows that say what an earlier one says", form=".1%"),
    "near_repeats": Measure(
        title="near repeats",
        meaning=f"rows whose words are like an earlier one's, by {NEAR_DUPLICATE} or more",
        form=".1%",
    ),
    "jaccard_distance": Measure(
        title="lexical distance",
        meaning="to the nearest other row: 1 − Jaccard of words and pairs of words",
        form=".3f",
    ),
    "cosine_distance": Measure(
        title="distance in meaning", meaning="to the nearest other row: 1 − cosine of embeddings", form=".4f"
    ),
    "vendi_words": Measure(
        title="Vendi score of words", meaning="rows that share no words and would be as diverse as these", form=",.1f"
    ),
    "vendi_meaning": Measure(
        title="Vendi score of meaning", meaning="the same of embeddings; of hidden states it stays near 1", form=",.2f"
    ),
    "category_entropy": Measure(title="category entropy", meaning="bits; 3.58 for twelve equal categories", form=".2f"),
    "compression": Measure(
        title="compression ratio", meaning="of all text together; lower is more diverse", form=".2f"
    ),
}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measure of several samples."""

    mean: float
    spread: float | None
    """Standard deviation between samples; None of one sample."""


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """All measures at one size."""

    size: int
    """Rows of a sample."""
    samples: int
    estimates: Mapping[str, Estimate]
    """By the names of MEASURES; those without embeddings or tags are missing where there are none."""


def sizes_for(smallest: int) -> tuple[int, ...]:
    """The sizes that datasets of at least so many rows can be compared at; below the smallest one, all they have."""
    return tuple(size for size in SIZES if size <= smallest) or ((smallest,) if smallest > 1 else ())


def sample_rows(count: int, size: int) -> list[list[int]]:
    """Up to SAMPLES samples of `size` of `count` rows, always the same ones, without common rows.

    Each has its rows in their order.
    """
    # Numpy promises that this generator's numbers stay what they are.
    order = np.random.RandomState(count % 2**32).permutation(count)
    number = min(SAMPLES, count // size)
    return [sorted(order[size * each : size * (each + 1)].tolist()) for each in range(number)]


def diversity_of(
    rows: Sequence[Record],
    vectors: UnitVectors | None,
    size: int,
    tell: Callable[[], None] = lambda: None,
) -> Diversity:
    """Measure samples of `size` rows; `vectors` (N, d) are of length 1. `tell` is called behind each sample."""
    found: list[dict[str, float]] = []
    for chosen in sample_rows(len(rows), size):
        found.append(_measure([rows[at] for at in chosen], None if vectors is None else vectors[chosen]))
        tell()
    common = [name for name in MEASURES if all(name in each for each in found)]
    return Diversity(
        size=size,
        samples=len(found),
        estimates={name: _estimate([each[name] for each in found]) for name in common},
    )


def _measure(rows: Sequence[Record], vectors: UnitVectors | None) -> dict[str, float]:
    texts = [instruction_of(row) for row in rows]
    worded = [words(text) for text in texts]
    lexical = jaccards(texts)
    measured = {
        "words": sum(map(len, worded)) / len(worded),
        **{f"distinct_{size}": _distinct(worded, size) for size in (1, 2, 3)},
        "exact_repeats": 1 - len(set(map(folded, texts))) / len(texts),
        "near_repeats": _near_repeats(texts) / len(texts),
        "jaccard_distance": float(nearest_distances(lexical).mean()),
        "vendi_words": _vendi(lexical),
        "compression": _compression(texts),
    }
    labels = Counter(label_of(row, "category") for row in rows)
    if None not in labels:
        measured["category_entropy"] = _entropy(np.array(list(labels.values())) / len(rows)) / float(np.log(2))
    if vectors is not None:
        alike = cosines(vectors)
        measured["cosine_distance"] = float(nearest_distances(alike).mean())
        measured["vendi_meaning"] = _vendi(alike)
    return measured


def _distinct(worded: Sequence[list[str]], size: int) -> float:
    found = [gram for each in worded for gram in zip(*(each[start:] for start in range(size)), strict=False)]
    return len(set(found)) / len(found) if found else 0.0


def _near_repeats(texts: Sequence[str]) -> int:
    index, found = LexicalIndex(), 0
    for number, text in enumerate(texts):
        signature = index.signature(text)
        found += index.find(signature) is not None
        index.add(number, signature)
    return found


def _compression(texts: Sequence[str]) -> float:
    data = "\n".join(texts).encode("utf-8", "replace")
    return len(data) / len(zlib.compress(data, 9)) if data else 1.0


def _vendi(similarities: np.ndarray) -> float:
    """Of order 2, which needs no eigenvalues: 1 / Σ λ² of the (N, N) similarities / N is N² / Σ k²."""
    return len(similarities) ** 2 / float(np.square(similarities, dtype=np.float64).sum())


def _entropy(shares: np.ndarray) -> float:
    """In nats."""
    shares = shares[shares > 1e-12]
    return float(-(shares * np.log(shares)).sum())


def _estimate(values: Sequence[float]) -> Estimate:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Estimate(mean=float(np.mean(values)), spread=spread)
