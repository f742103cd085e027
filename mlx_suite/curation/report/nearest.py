"""How far each row is from the row that is nearest to it.

Shapes: N rows, d dimensions.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlx_suite.curation.duplicates.lexical import shingles
from mlx_suite.curation.duplicates.words import words
from mlx_suite.curation.report.source import UnitVectors

Similarities = npt.NDArray[np.float32]
COSINE, JACCARD = "cosine", "Jaccard"
_FREQUENT = 32
"""Rows from which a shingle is counted by a matrix product, not by its pairs of rows."""


def cosines(vectors: UnitVectors) -> Similarities:
    """(N, d) unit vectors to the (N, N) cosines between them."""
    found: Similarities = np.clip(vectors @ vectors.T, -1.0, 1.0)
    return found


def jaccards(texts: Sequence[str]) -> Similarities:
    """(N, N): of each two texts, the shingles that both have among those that either has."""
    holders: dict[str, list[int]] = defaultdict(list)
    sizes = np.zeros(len(texts), np.float32)
    for number, text in enumerate(texts):
        # What has no words is still equal to itself.
        found = frozenset(shingles(words(text) or [" ".join(text.split())]))
        sizes[number] = len(found)
        for shingle in found:
            holders[shingle].append(number)
    shared = np.zeros((len(texts), len(texts)), np.float32)
    frequent = [rows for rows in holders.values() if len(rows) >= _FREQUENT]
    for rows in holders.values():
        if 1 < len(rows) < _FREQUENT:
            shared[np.ix_(rows, rows)] += 1
    held = np.zeros((len(texts), len(frequent)), np.float32)
    for column, rows in enumerate(frequent):
        held[rows, column] = 1
    shared += held @ held.T
    np.fill_diagonal(shared, sizes)
    similar: Similarities = shared / (sizes[:, None] + sizes[None, :] - shared)
    return similar


def nearest_distances(similarities: Similarities) -> npt.NDArray[np.float32]:
    """(N, N) to (N,): 1 − the similarity of each row to the most similar other one. None for fewer than two rows."""
    if len(similarities) < 2:
        return np.zeros(0, np.float32)
    others = similarities.copy()
    np.fill_diagonal(others, -np.inf)
    distances: npt.NDArray[np.float32] = np.maximum(1 - others.max(axis=1), 0)
    return distances
