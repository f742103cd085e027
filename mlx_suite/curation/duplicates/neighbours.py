"""Exact nearest-neighbour search by cosine similarity, in memory.

Shapes: N rows, D dimensions of an input vector, d of a stored one.

Vectors of more than 256 dimensions are projected to 256 by a fixed random matrix, which changes a cosine c by about
(1 − c²) / 16, one standard deviation (Johnson and Lindenstrauss): ± 0.012 at 0.9. Stored vectors and queries are
rounded to half precision, the precision of `embeddings.npy`, so that rows restored from the file give the same results.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.runtime.errors import UserError

WIDTH = 256
"""Maximum dimensions of a stored vector: 100,000 rows take 102 MB and one search about 10 ms."""
BLOCK = 4096
"""Rows per array: a single growing matrix would be copied repeatedly."""
DECIMALS = 5
"""Decimals of a cosine; further ones depend on the order of summation."""

Vector = npt.NDArray[np.floating[Any]]
Half = npt.NDArray[np.float16]
Single = npt.NDArray[np.float32]


class Neighbours:
    """An index of vectors by key.

    Args:
        dim: Dimensions of an input vector, D.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._projection = _projection(dim)
        self._width = min(dim, WIDTH)
        self._blocks: list[Single] = []
        self._keys: list[int] = []

    def nearest(self, vector: Vector) -> tuple[int, float] | None:
        """Key and cosine of the row nearest to a vector (D,), the first if tied; None if the index is empty.

        Raises UserError for a vector that is zero or contains NaN or inf.
        """
        row = self.stored(vector).astype(np.float32)
        best: tuple[int, float] | None = None
        for number, block in enumerate(self._blocks):
            begin = number * BLOCK
            # Row by row: a matrix product may wait for a second core that is busy.
            cosines: Single = np.atleast_1d(np.vecdot(block[: len(self._keys) - begin], row)).round(DECIMALS)
            place = int(cosines.argmax())
            cosine = min(float(cosines.max()), 1.0)
            if best is None or cosine > best[1]:
                best = begin + place, cosine
        return None if best is None else (self._keys[best[0]], round(best[1], DECIMALS))

    def add(self, key: int, vector: Vector) -> None:
        """Insert a vector (D,). Raises UserError if it is zero or contains NaN or inf."""
        self.restore([key], self.stored(vector)[None])

    def restore(self, keys: Iterable[int], rows: Vector) -> None:
        """Insert rows (N, d) that were exported by `matrix`."""
        for key, row in zip(keys, rows, strict=True):
            place = len(self._keys) % BLOCK
            if place == 0:
                self._blocks.append(np.empty((BLOCK, self._width), np.float32))
            self._blocks[-1][place] = row
            self._keys.append(key)

    def stored(self, vector: Vector) -> Half:
        """The stored form (d,) of a vector (D,): projected, of length 1, in half precision.

        Raises UserError if it is zero or contains NaN or inf.
        """
        assert vector.shape == (self.dim,), f"{vector.shape} is not ({self.dim},)"
        wide = vector.astype(np.float32)
        row = wide if self._projection is None else wide @ self._projection
        length = float(np.linalg.norm(row))
        if not 0 < length < np.inf:
            raise UserError(
                "An embedding is zero or contains NaN or inf",
                where="the model's hidden state after an instruction",
                fix="load the model in float32",
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
    """The projection matrix (D, d), always the same; None if no projection is needed."""
    if dim <= WIDTH:
        return None
    # NumPy guarantees that the stream of this generator never changes.
    normal: Single = np.random.RandomState(0).standard_normal((dim, WIDTH)).astype(np.float32)
    return normal
