"""Diversity of a dataset's instructions, at equal sample sizes.

Larger sets have nearer neighbours and repeat more words, so every measure is taken on samples of fixed sizes. Samples
of one size are disjoint; two or more of them give a standard deviation.

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
from mlx_suite.curation.report.counts import label_of
from mlx_suite.curation.report.neighbours import UnitVectors, cosines, jaccards, nearest_distances, sample_rows
from mlx_suite.curation.rows import Record


@dataclass(frozen=True)
class Measure:
    """How the page shows one measure."""

    title: str
    meaning: str
    form: str
    """Format of a value, for `format`."""


_NEAR = f"rows with a Jaccard similarity of {NEAR_DUPLICATE} or more to an earlier one"
MEASURES: Mapping[str, Measure] = {
    "words": Measure("words", "per instruction, mean", ".1f"),
    "distinct_1": Measure("distinct-1", "distinct words / all words", ".1%"),
    "distinct_2": Measure("distinct-2", "distinct bigrams / all bigrams", ".1%"),
    "distinct_3": Measure("distinct-3", "distinct trigrams / all trigrams", ".1%"),
    "exact_repeats": Measure("exact duplicates", "rows that repeat an earlier one", ".1%"),
    "near_repeats": Measure("near-duplicates", _NEAR, ".1%"),
    "jaccard_distance": Measure("lexical distance", "mean of 1 − Jaccard similarity to the nearest other row", ".3f"),
    "cosine_distance": Measure("semantic distance", "mean of 1 − cosine similarity to the nearest other row", ".4f"),
    "vendi_words": Measure("Vendi score, lexical", "effective number of distinct rows, by Jaccard similarity", ",.1f"),
    "vendi_meaning": Measure("Vendi score, semantic", "effective number by cosine; near 1 for hidden states", ",.2f"),
    "category_entropy": Measure("category entropy", "bits; 3.58 for twelve equal categories", ".2f"),
    "compression": Measure("compression ratio", "all instructions together; lower is more diverse", ".2f"),
}
"""Measures in the order of the page."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measure, averaged over samples."""

    mean: float
    spread: float | None
    """Standard deviation between samples; None for a single sample."""


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """All measures at one sample size."""

    size: int
    """Rows per sample."""
    samples: int
    estimates: Mapping[str, Estimate]
    """Estimates by name in MEASURES, without those that need missing embeddings or tags."""


def diversity_of(
    rows: Sequence[Record],
    vectors: UnitVectors | None,
    size: int,
    on_sample: Callable[[], None] = lambda: None,
) -> Diversity:
    """Measure samples of `size` rows. `on_sample` is called after each sample."""
    measured: list[dict[str, float]] = []
    for chosen in sample_rows(len(rows), size):
        measured.append(_measure([rows[at] for at in chosen], None if vectors is None else vectors[chosen]))
        on_sample()
    common = [name for name in MEASURES if all(name in each for each in measured)]
    return Diversity(
        size=size,
        samples=len(measured),
        estimates={name: _estimate([each[name] for each in measured]) for name in common},
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
        semantic = cosines(vectors)
        measured["cosine_distance"] = float(nearest_distances(semantic).mean())
        measured["vendi_meaning"] = _vendi(semantic)
    return measured


def _distinct(worded: Sequence[list[str]], size: int) -> float:
    grams = [gram for each in worded for gram in zip(*(each[start:] for start in range(size)), strict=False)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _near_repeats(texts: Sequence[str]) -> int:
    index, count = LexicalIndex(), 0
    for number, text in enumerate(texts):
        signature = index.signature(text)
        count += index.find(signature) is not None
        index.add(number, signature)
    return count


def _compression(texts: Sequence[str]) -> float:
    data = "\n".join(texts).encode("utf-8", "replace")
    return len(data) / len(zlib.compress(data, 9)) if data else 1.0


def _vendi(similarities: np.ndarray) -> float:
    """Vendi score of order 2, without eigenvalues: 1 / Σ λ² of the (N, N) similarities k over N equals N² / Σ k²."""
    return len(similarities) ** 2 / float(np.square(similarities, dtype=np.float64).sum())


def _entropy(shares: np.ndarray) -> float:
    """Entropy in nats."""
    shares = shares[shares > 1e-12]
    return float(-(shares * np.log(shares)).sum())


def _estimate(values: Sequence[float]) -> Estimate:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Estimate(mean=float(np.mean(values)), spread=spread)
