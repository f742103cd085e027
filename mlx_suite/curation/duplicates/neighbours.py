"""The nearest of the rows so far by the cosine of their vectors, exactly, in memory.

Shapes: N rows, D values of a given vector, d of a kept one.

A vector of more than 256 values is projected to 256 by a fixed random matrix. That keeps a cosine c to within about
(1 − c²) / 16, one standard deviation (Johnson and Lindenstrauss): at 0.9 ± 0.012. What is kept is rounded to half
precision, as it stands in `embeddings.npy`, and so is what is looked up: rows that are put back from the file are found
as they were before.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.runtime.errors import UserError

WIDTH = 256
"""Values of a kept vector at most: 100,000 rows take 102 MB, and a look among them about 10 ms."""
BLOCK = 4096
"""Rows of one array; a growing matrix in one piece were copied again and again."""
DECIMALS = 5
"""Of a cosine. Beyond them it depends on the order in which a machine adds."""

Vector = npt.NDArray[np.floating[Any]]
Half = npt.NDArray[np.float16]
Single = npt.NDArray[np.float32]


class Neighbours:
    """Vectors by their keys.

    Args:
        dim: Values of a given vector, D.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._projection = _projection(dim)
        self._width = min(dim, WIDTH)
        self._blocks: list[Single] = []
        self._keys: list[int] = []

    def nearest(self, vector: Vector) -> tuple[int, float] | None:
        """Key and cosine of the row nearest to a vector (D,), the first of several; None while there is none.

        Raises UserError for a vector that is no direction.
        """
        row = self.kept(vector).astype(np.float32)
        best: tuple[int, float] | None = None
        for number, block in enumerate(self._blocks):
            begin = number * BLOCK
            # Row by row: a matrix product may wait for a second core that is at work elsewhere.
            cosines: Single = np.atleast_1d(np.vecdot(block[: len(self._keys) - begin], row)).round(DECIMALS)
            place = int(cosines.argmax())
            cosine = min(float(cosines.max()), 1.0)
            if best is None or cosine > best[1]:
                best = begin + place, cosine
        return None if best is None else (self._keys[best[0]], round(best[1], DECIMALS))

    def add(self, key: int, vector: Vector) -> None:
        """Put a vector (D,) in. Raises UserError for one that is no direction."""
        self.restore([key], self.kept(vector)[None])

    def restore(self, keys: Iterable[int], rows: Vector) -> None:
        """Put back rows (N, d) as `matrix` gave them, in their order."""
        for key, row in zip(keys, rows, strict=True):
            place = len(self._keys) % BLOCK
            if place == 0:
                self._blocks.append(np.empty((BLOCK, self._width), np.float32))
            self._blocks[-1][place] = row
            self._keys.append(key)

    def kept(self, vector: Vector) -> Half:
        """A vector (D,) as it is kept: (d,), of length 1 but for rounding.

        Raises UserError for one that is no direction.
        """
        assert vector.shape == (self.dim,), f"{vector.shape} is not ({self.dim},)"
        wide = vector.astype(np.float32)
        row = wide if self._projection is None else wide @ self._projection
        length = float(np.linalg.norm(row))
        if not 0 < length < np.inf:
            raise UserError(
                "a row's embedding is no direction: it is zero, or holds something that is no number",
                where="the model's hidden state behind an instruction",
                fix="leave the embeddings off, or load the model in float32",
            )
        half: Half = (row / length).astype(np.float16)
        return half

    @property
    def matrix(self) -> Half:
        """All rows in order, (N, d), for `embeddings.npy`."""
        if not self._blocks:
            return np.empty((0, self._width), np.float16)
        rows: Half = np.concatenate(self._blocks)[: len(self._keys)].astype(np.float16)
        return rows

    def __len__(self) -> int:
        return len(self._keys)


@cache
def _projection(dim: int) -> Single | None:
    """(D, d), the same everywhere; None where vectors are kept as they are."""
    if dim <= WIDTH:
        return None
    # Numpy promises that this generator's numbers stay what they are.
    normal: Single = np.random.RandomState(0).standard_normal((dim, WIDTH)).astype(np.float32)
    return normal
