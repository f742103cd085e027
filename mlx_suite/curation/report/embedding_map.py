"""Embeddings projected to two dimensions by principal component analysis.

Two datasets share one pair of components, fitted on equally many rows of each, so that their maps can be compared.

Shapes: N rows, d dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlx_suite.curation.report.neighbours import UnitVectors

POINTS = 3000
"""Maximum number of dots: more would hide each other and make the page large."""
_EXTRA, _ROUNDS = 8, 12
"""Extra dimensions and rounds of the subspace iteration: six digits unless the two variances are nearly equal."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """The rows of one dataset as points."""

    chosen: tuple[int, ...]
    """Indices of the rows drawn."""
    points: npt.NDArray[np.float64]
    """Coordinates, (chosen, 2)."""
    explained: tuple[float, float]
    """Share of the variance along each axis."""


def map_of(datasets: Sequence[UnitVectors]) -> tuple[EmbeddingMap, ...]:
    """One map for each array (N, d), all on the same axes; deterministic."""
    chosen = [_drawn(len(vectors)) for vectors in datasets]
    equal = min(map(len, chosen))
    # Equal numbers of rows, so that the larger dataset does not dominate the components.
    fitted = np.concatenate(
        [vectors[_evenly(rows, equal)] for vectors, rows in zip(datasets, chosen, strict=True)]
    ).astype(np.float64)
    center = fitted.mean(axis=0)
    axes, explained = _components(fitted - center)
    return tuple(
        EmbeddingMap(
            chosen=tuple(rows),
            points=(vectors[rows].astype(np.float64) - center) @ axes.T,
            explained=explained,
        )
        for vectors, rows in zip(datasets, chosen, strict=True)
    )


def _drawn(count: int) -> list[int]:
    """All rows, or POINTS of them evenly spaced."""
    return list(range(count)) if count <= POINTS else _evenly(list(range(count)), POINTS)


def _evenly(rows: list[int], count: int) -> list[int]:
    return [rows[at * len(rows) // count] for at in range(count)]


def _components(centered: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """(N, d) to the first two right singular vectors (2, d) and their shares of the variance.

    Uses subspace iteration: a full SVD takes minutes for the hidden states of large models.
    """
    rows, dimensions = centered.shape
    width = min(2 + _EXTRA, rows, dimensions)
    # NumPy guarantees that the stream of this generator never changes.
    basis = np.random.RandomState(0).standard_normal((dimensions, width))
    for _ in range(_ROUNDS):
        basis, _ = np.linalg.qr(centered.T @ (centered @ basis))
    _, values, right = np.linalg.svd(centered @ basis, full_matrices=False)
    axes = np.zeros((2, dimensions))
    components = (right @ basis.T)[:2]
    axes[: len(components)] = components
    # The sign of a component is arbitrary; make its largest entry positive.
    for axis in axes:
        if axis[np.abs(axis).argmax()] < 0:
            axis *= -1
    total = float((centered**2).sum())
    shares = [float(value**2) / total if total else 0.0 for value in values[:2]]
    first, second = (*shares, 0.0, 0.0)[:2]
    return axes, (first, second)
