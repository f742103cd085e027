"""Groups of rows that are near-duplicates of each other, directly or by way of others.

Shapes: N rows, d values of a vector.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.curation.duplicates.lexical import NEAR_DUPLICATE, LexicalIndex

BLOCK = 512
"""Rows whose cosines to all earlier ones are taken at once: 200 MB at 100,000 rows."""


class _Groups:
    """Which rows belong together (union-find with path halving). A group is named by its first row."""

    def __init__(self, size: int) -> None:
        self._before = list(range(size))

    def first(self, row: int) -> int:
        before = self._before
        while before[row] != row:
            before[row] = before[before[row]]
            row = before[row]
        return row

    def together(self, one: int, other: int) -> bool:
        return self.first(one) == self.first(other)

    def join(self, one: int, other: int) -> None:
        one, other = self.first(one), self.first(other)
        self._before[max(one, other)] = min(one, other)


def near_duplicate_clusters(
    texts: Sequence[str],
    vectors: npt.NDArray[np.floating[Any]] | None = None,
    *,
    threshold: float = NEAR_DUPLICATE,
    cosine: float | None = None,
) -> list[int]:
    """The number of each row's cluster, counted from 0 in the order in which clusters begin.

    Args:
        texts: The instructions.
        vectors: Their embeddings (N, d), of any length but 0.
        threshold: From which similarity of their words on two rows belong together (`lexical.similarity`).
        cosine: From which cosine of their embeddings on they do; None leaves the embeddings aside.
    """
    groups = _Groups(len(texts))
    _join_by_words(groups, texts, threshold)
    if vectors is not None and cosine is not None:
        assert len(vectors) == len(texts), "one vector a row"
        _join_by_vectors(groups, vectors, cosine)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(groups.first(row), len(numbers)) for row in range(len(texts))]


def _join_by_words(groups: _Groups, texts: Sequence[str], threshold: float) -> None:
    index = LexicalIndex(threshold)
    same: dict[str, int] = {}
    for row, text in enumerate(texts):
        taken_apart = index.signature(text)
        earlier = same.setdefault(taken_apart.words, row)
        if earlier != row:
            groups.join(earlier, row)
            continue
        for other, _ in index.matches(taken_apart, skip=partial(groups.together, row)):
            groups.join(other, row)
        index.add(row, taken_apart)


def _join_by_vectors(groups: _Groups, vectors: npt.NDArray[np.floating[Any]], cosine: float) -> None:
    units = vectors.astype(np.float32)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    for begin in range(0, len(units), BLOCK):
        block = units[begin : begin + BLOCK]
        near = block @ units[: begin + len(block)].T >= cosine
        firsts = np.array([groups.first(row) for row in range(begin + len(block))])
        for row, others in enumerate(near, start=begin):
            # One row of each group among them is enough.
            for first in np.unique(firsts[: row + 1][others[: row + 1]]).tolist():
                groups.join(first, row)
