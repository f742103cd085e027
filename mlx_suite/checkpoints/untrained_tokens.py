"""Tokens that were never trained, found by their rows in the embedding.

A base model has never read the markers of a chat template that was written after its training. Their rows still look
like those of the reserved tokens: in Gemma 3 270M the cosine similarity of `<end_of_turn>` and the `<unusedN>` is 0.99.
A model that is finetuned with frozen embeddings cannot tell such a stop token from any of them. Other families leave
such rows identical, close to zero (Llama 3) or equal to the mean of the embedding (tokens added later). See also
"Fishing for Magikarp", arXiv 2405.05417.

Shapes: V vocabulary, d hidden size, n tokens.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from mlx_suite.modeling.head import Matrix

Sign = Literal["reserved", "identical", "zero", "mean"]
Rows = npt.NDArray[np.float32]

ALIKE = 0.9
"""Cosine similarity to the reserved tokens from which a token counts as untrained. In Gemma 3 270M `<start_of_turn>`
has 0.95, and 99 % of all other tokens have less than 0.74."""
SURE = 0.98
"""The same for tokens that no template and no name points at."""
EDGE = 0.005
"""How much less similar a token is that was trained a little than nine tenths of the reserved ones: in Gemma 3 270M,
`<end_of_turn>` loses 0.013 in an epoch on 935 examples."""
USUAL = 0.8
"""Cosine similarity to the reserved tokens that at most a tenth of the vocabulary may have; else it says nothing."""
FEWEST = 3
"""Minimum reserved tokens to compare with."""
TINY = 0.1
"""Norm, and distance from the mean, as a fraction of the vocabulary's median."""
SAME = 1e-3
"""Distance of two rows, as a fraction of their norm, below which they are identical."""
SAMPLE = 4096
"""Ordinary rows that stand for the vocabulary."""
CHUNK = 4096
"""Rows of the embedding at a time: few, so that a processor computes with them in its cache."""


@dataclass(frozen=True, kw_only=True)
class UntrainedToken:
    """A token whose row shows that it was never trained."""

    id: int
    sign: Sign
    figure: float
    """Cosine similarity to the reserved tokens; or norm, distance to the mean or to the identical row, as a fraction of
    the usual one."""
    is_trained_a_little: bool = False
    """Whether its row has left those of the reserved tokens, as after a short finetuning."""

    @property
    def evidence(self) -> str:
        """The sign and its figure in words."""
        return {
            "reserved": f"cosine similarity {self.figure:.2f} to the reserved tokens",
            "identical": "its embedding is that of another token",
            "zero": f"its embedding has {self.figure:.1%} of the usual norm",
            "mean": "its embedding is the mean of all",
        }[self.sign]


def untrained_tokens(matrix: Matrix, reserved: Collection[int], ids: Sequence[int]) -> list[UntrainedToken]:
    """Those of the tokens `ids` that were never trained, in their order.

    Args:
        matrix: The embedding.
        reserved: Ids of reserved tokens; other signs than the similarity to them need none.
    """
    if not ids:
        return []
    rows = _rows(matrix, ids)
    center, usual = _reserved_direction(matrix, reserved), _sample(matrix, reserved)
    edge = 0.0 if center is None else _edge(matrix, reserved, center)
    norms, usual_norm = _norms(rows), float(np.median(_norms(usual)))
    mean = usual.mean(axis=0)
    spread = float(np.median(_norms(usual - mean)))
    twins = _distance_to_others(matrix, ids, rows)
    found = []
    for at, token in enumerate(ids):
        cosine = 0.0 if center is None else float(rows[at] @ center / max(norms[at], 1e-30))
        distance = float(np.linalg.norm(rows[at] - mean))
        signs: list[tuple[bool, Sign, float]] = [
            (cosine >= ALIKE, "reserved", cosine),
            (norms[at] <= TINY * usual_norm, "zero", float(norms[at] / max(usual_norm, 1e-30))),
            (twins[at] <= SAME, "identical", float(twins[at])),
            (distance <= TINY * spread, "mean", distance / max(spread, 1e-30)),
        ]
        found += [
            UntrainedToken(
                id=token, sign=sign, figure=figure, is_trained_a_little=sign == "reserved" and figure < edge - EDGE
            )
            for met, sign, figure in signs
            if met
        ][:1]
    return found


def tokens_like_reserved(matrix: Matrix, reserved: Collection[int]) -> frozenset[int]:
    """All ids whose row is that of the reserved tokens, apart from these; empty if the model has too few of them."""
    center = _reserved_direction(matrix, reserved)
    if center is None:
        return frozenset()
    direction, ones = mx.array(center), mx.ones(center.shape)
    found: list[int] = []
    for start in range(0, matrix.weight.shape[0], CHUNK):
        rows = matrix.rows(slice(start, min(start + CHUNK, matrix.weight.shape[0])))
        # A product with ones is a sum, which a BLAS computes several times as fast as MLX sums rows.
        norms = mx.sqrt(mx.square(rows) @ ones)
        cosines = np.array((rows @ direction) / mx.maximum(norms, 1e-30))
        found += (start + np.flatnonzero(cosines >= SURE)).tolist()
    return frozenset(found) - frozenset(reserved)


def _reserved_direction(matrix: Matrix, reserved: Collection[int]) -> Rows | None:
    """Unit vector of most reserved tokens; None if they do not share one, or if ordinary tokens share it too."""
    if len(reserved) < FEWEST:
        return None
    rows = _rows(matrix, _spread(sorted(reserved)))
    norms = _norms(rows)
    units = rows[norms > 0] / norms[norms > 0, None]
    if len(units) < FEWEST:
        return None
    center = _unit(units.mean(axis=0))
    for _ in range(2):  # once more without those that are trained after all
        near = units @ center >= USUAL
        center = _unit(units[near].mean(axis=0)) if near.any() else center
    usual = _sample(matrix, reserved)
    share = float(np.mean(units @ center >= ALIKE))
    high = float(np.quantile(usual @ center / np.maximum(_norms(usual), 1e-30), 0.9))
    return center if share >= 0.5 and high < USUAL else None


def _edge(matrix: Matrix, reserved: Collection[int], center: Rows) -> float:
    """The cosine similarity that nine tenths of the reserved tokens near their direction reach."""
    rows = _rows(matrix, _spread(sorted(reserved)))
    cosines = rows @ center / np.maximum(_norms(rows), 1e-30)
    return float(np.quantile(cosines[cosines >= USUAL], 0.1))


def _distance_to_others(matrix: Matrix, ids: Sequence[int], rows: Rows) -> Rows:
    """Distance of each row from the nearest row of another token, as a fraction of its norm; (n,)."""
    own, at = mx.array(rows), np.array(ids)
    squares = (own * own).sum(axis=-1)
    least = np.full(len(ids), np.inf, np.float32)
    for start in range(0, matrix.weight.shape[0], CHUNK):
        stop = min(start + CHUNK, matrix.weight.shape[0])
        others = matrix.rows(slice(start, stop))
        distances = squares[:, None] + (others * others).sum(axis=-1) - 2 * own @ others.T
        found = np.array(distances / mx.maximum(squares[:, None], 1e-30))
        inside = (at >= start) & (at < stop)
        found[np.flatnonzero(inside), at[inside] - start] = np.inf
        # Rounding leaves about 1e-6 of a square, so a near one is measured exactly.
        for row in np.flatnonzero(found.min(axis=1) < 1e-4):
            nearest = rows[row] - np.array(others[int(found[row].argmin())])
            exact = float(np.linalg.norm(nearest)) / max(float(np.linalg.norm(rows[row])), 1e-30)
            least[row] = min(least[row], exact)
    return least


def _sample(matrix: Matrix, reserved: Collection[int]) -> Rows:
    """Rows of ordinary tokens, spread over the vocabulary."""
    every = range(matrix.weight.shape[0])
    ordinary = [index for index in _spread(every, 2 * SAMPLE) if index not in reserved] or list(_spread(every))
    return _rows(matrix, _spread(ordinary))


def _spread(ids: Sequence[int], most: int = SAMPLE) -> Sequence[int]:
    """At most `most` of the ids, evenly spread."""
    return ids[:: -(-len(ids) // most)]


def _rows(matrix: Matrix, ids: Sequence[int]) -> Rows:
    found: Any = np.array(matrix.rows(mx.array(list(ids))))
    return found


def _norms(rows: Rows) -> Rows:
    norms: Rows = np.linalg.norm(rows, axis=-1)
    return norms


def _unit(vector: Rows) -> Rows:
    unit: Rows = vector / max(float(np.linalg.norm(vector)), 1e-30)
    return unit
