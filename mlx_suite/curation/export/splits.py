"""Train, validation and test splits that share no near-duplicates.

Shapes: N rows, d dimensions of an embedding.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from mlx_suite.curation.dataset import Vectors
from mlx_suite.curation.duplicates.lexical import NEAR_DUPLICATE, LexicalIndex
from mlx_suite.curation.filter.selection import random_key
from mlx_suite.curation.rows import Record
from mlx_suite.data.read.sources import TEST, TRAIN, VALID
from mlx_suite.runtime.errors import UserError

BLOCK = 512
"""Rows per matrix product with all earlier rows: 200 MB at 100,000 rows."""


class _Groups:
    """Union-find with path halving. A group is identified by its first row."""

    def __init__(self, size: int) -> None:
        self._parents = list(range(size))

    def first(self, row: int) -> int:
        parents = self._parents
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    def together(self, one: int, other: int) -> bool:
        return self.first(one) == self.first(other)

    def join(self, one: int, other: int) -> None:
        one, other = self.first(one), self.first(other)
        self._parents[max(one, other)] = min(one, other)


def near_duplicate_clusters(
    texts: Sequence[str],
    vectors: Vectors | None = None,
    *,
    threshold: float = NEAR_DUPLICATE,
    cosine: float | None = None,
) -> list[int]:
    """Cluster of each row, numbered from 0 by first rows; near-duplicates, also through other rows, share a cluster.

    Args:
        texts: The instructions.
        vectors: Embeddings (N, d) of the instructions, none of them zero.
        threshold: Minimum Jaccard similarity of near-duplicates (`lexical.similarity`).
        cosine: Minimum cosine similarity of near-duplicates; None ignores the embeddings.
    """
    groups = _Groups(len(texts))
    _join_by_words(groups, texts, threshold)
    if vectors is not None and cosine is not None:
        assert len(vectors) == len(texts), "one vector per row"
        _join_by_vectors(groups, vectors, cosine)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(groups.first(row), len(numbers)) for row in range(len(texts))]


def _join_by_words(groups: _Groups, texts: Sequence[str], threshold: float) -> None:
    index = LexicalIndex(threshold)
    same: dict[str, int] = {}
    for row, text in enumerate(texts):
        signature = index.signature(text)
        earlier = same.setdefault(signature.words, row)
        if earlier != row:
            groups.join(earlier, row)
            continue
        for other, _ in index.matches(signature, skip=partial(groups.together, row)):
            groups.join(other, row)
        index.add(row, signature)


def _join_by_vectors(groups: _Groups, vectors: Vectors, cosine: float) -> None:
    units = vectors.astype(np.float32)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    for begin in range(0, len(units), BLOCK):
        block = units[begin : begin + BLOCK]
        near = block @ units[: begin + len(block)].T >= cosine
        firsts = np.array([groups.first(row) for row in range(begin + len(block))])
        for row, others in enumerate(near, start=begin):
            # One row of each group is enough.
            for first in np.unique(firsts[: row + 1][others[: row + 1]]).tolist():
                groups.join(first, row)


def split_rows(
    rows: Sequence[Record], clusters: Sequence[int], shares: Mapping[str, float], seed: int
) -> dict[str, tuple[int, ...]]:
    """Row indices of each split, ascending: `train`, and every split with a share above 0.

    A cluster stays in one split. Clusters are assigned from largest to smallest, each to the split that lacks the most
    rows; the seed and the texts order clusters of equal size. Splits are as close to their shares as the clusters
    allow, and large clusters go to training.

    Raises UserError if there are fewer clusters than splits.
    """
    targets = {VALID: shares.get(VALID, 0.0), TEST: shares.get(TEST, 0.0)}
    assert all(share >= 0 for share in targets.values()) and sum(targets.values()) < 1, targets
    lacking = {name: max(1, round(share * len(rows))) for name, share in targets.items() if share > 0}
    lacking = {TRAIN: len(rows) - sum(lacking.values()), **lacking}
    groups = _in_random_order(rows, clusters, seed)
    if len(groups) < len(lacking):
        raise UserError(
            f"The rows cannot be split into {len(lacking)} parts: there are {len(rows):,}, "
            f"in {len(groups):,} clusters of near-duplicates",
            where="--valid, --test",
            fix="use fewer splits or more rows",
        )
    dealt: dict[str, list[list[int]]] = {name: [] for name in lacking}
    for group in groups:
        name = max(lacking, key=lambda name: lacking[name])  # ties go to train
        dealt[name].append(group)
        lacking[name] -= len(group)
    for own in dealt.values():
        if not own:  # take the smallest cluster of the split with the most
            own.append(max(dealt.values(), key=len).pop())
    return {name: tuple(sorted(number for group in own for number in group)) for name, own in dealt.items()}


def _in_random_order(rows: Sequence[Record], clusters: Sequence[int], seed: int) -> list[list[int]]:
    """Clusters by size, then in random order; independent of the order of the rows."""
    groups: dict[int, list[int]] = {}
    for number, cluster in enumerate(clusters):
        groups.setdefault(cluster, []).append(number)
    keys = [random_key(row, seed) for row in rows]
    return sorted(groups.values(), key=lambda group: (-len(group), min(keys[number] for number in group)))
