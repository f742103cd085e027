"""Embeddings in two dimensions: the two directions in which they differ most (principal components).

Two datasets share one pair of directions, found of as many rows of either, so that their maps can be laid side by side.

Shapes: N rows, d dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlx_suite.curation.report.source import UnitVectors

POINTS = 3000
"""Rows that are drawn; more would hide each other, and make the page large."""
_EXTRA, _ROUNDS = 8, 12
"""Of the subspace iteration: enough for six digits of the first two components where they are not of one size."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """One dataset's rows as points."""

    chosen: tuple[int, ...]
    """Numbers of the rows that are drawn."""
    points: npt.NDArray[np.float64]
    """(chosen, 2)"""
    explained: tuple[float, float]
    """Share of the embeddings' variance along either axis."""


def map_of(datasets: Sequence[UnitVectors]) -> tuple[EmbeddingMap, ...]:
    """One map for each (N, d), all on the same axes. Nothing is drawn by chance."""
    chosen = [_spread_out(len(vectors)) for vectors in datasets]
    equal = min(map(len, chosen))
    # As many of each, or the larger dataset would choose the directions alone.
    fitted = np.concatenate([vectors[_of(rows, equal)] for vectors, rows in zip(datasets, chosen, strict=True)]).astype(
        np.float64
    )
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


def _spread_out(count: int) -> list[int]:
    """All rows, or POINTS of them at equal distances."""
    return list(range(count)) if count <= POINTS else _of(list(range(count)), POINTS)


def _of(rows: list[int], count: int) -> list[int]:
    return [rows[at * len(rows) // count] for at in range(count)]


def _components(centered: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """(N, d) to the first two right singular vectors (2, d), and the share of the variance of each.

    By subspace iteration: a whole decomposition takes minutes for large models' hidden states.
    """
    rows, dimensions = centered.shape
    width = min(2 + _EXTRA, rows, dimensions)
    # Numpy promises that this generator's numbers stay what they are.
    basis = np.random.RandomState(0).standard_normal((dimensions, width))
    for _ in range(_ROUNDS):
        basis, _ = np.linalg.qr(centered.T @ (centered @ basis))
    _, values, right = np.linalg.svd(centered @ basis, full_matrices=False)
    axes = np.zeros((2, dimensions))
    found = (right @ basis.T)[:2]
    axes[: len(found)] = found
    # A component has no sign of its own: its largest part is made positive.
    for axis in axes:
        if axis[np.abs(axis).argmax()] < 0:
            axis *= -1
    total = float((centered**2).sum())
    shares = [float(value**2) / total if total else 0.0 for value in values[:2]]
    first, second = (*shares, 0.0, 0.0)[:2]
    return axes, (first, second)
