"""The parts of one merged tensor: blocks of rows of every model, and what a method must know of the whole tensor.

Methods that need to know the whole tensor first read it more than once: combinations twice (inner products, then the
sum), TIES three times (two for the threshold of its trimming). If a tensor fits into one block, it is read once.

Shapes: N models, R rows, C columns.
"""

import math
from dataclasses import dataclass
from typing import cast

import mlx.core as mx
import numpy as np

from mlx_suite.runtime.errors import UserError
from mlx_suite.transfer.merge.combinations import Gram
from mlx_suite.transfer.merge.elections import magnitude_thresholds
from mlx_suite.transfer.merge.plan import MergedTensor

PIECE = 4096
"""Elements whose products are summed in fp32; the sums of the pieces are added in double precision."""


@dataclass
class TensorParts:
    """The parts of one tensor, read in blocks of rows."""

    tensor: MergedTensor
    block: int
    _kept: list[mx.array] | None = None

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First row of each block, and the one after its last."""
        weight = self.tensor.reference
        models = len(self.tensor.sources) + (self.tensor.base is not None)
        rows = max(1, self.block // max(1, weight.columns * models))
        return [(start, min(start + rows, weight.row_count)) for start in range(0, weight.row_count, rows)]

    def read(self, start: int, stop: int) -> list[mx.array]:
        """Rows of every model, and at the end of the base if there is one. Raises UserError for NaN or inf."""
        if self._kept is not None:
            return self._kept
        places = [(model, name) for _, model, name in self.tensor.sources]
        places += [self.tensor.base] if self.tensor.base else []
        arrays = [model.rows(name, start, stop) for model, name in places]
        finite = mx.stack([mx.isfinite(array).all() for array in arrays])
        mx.eval(arrays, finite)
        if not finite.all().item():
            flags = cast(list[bool], finite.tolist())
            bad = [f"{name} of {model.name}" for (model, name), good in zip(places, flags, strict=True) if not good]
            raise UserError(
                "A tensor contains NaN or inf",
                details=bad,
                where=", ".join(dict.fromkeys(str(model.folder) for model, _ in places)),
                fix="use another copy of the model, or the checkpoint from before training diverged",
            )
        if len(self.spans) == 1:
            self._kept = arrays
        return arrays

    def vectors(self, start: int, stop: int) -> list[mx.array]:
        """The vectors that are combined: differences from the base if there is one, else the weights."""
        arrays = self.read(start, stop)
        if self.tensor.base is None:
            return arrays
        *models, base = arrays
        return [model - base for model in models]

    def thresholds(self, densities: list[float]) -> list[float]:
        """For each difference, the smallest magnitude of the share `density` of its elements that is largest."""
        return magnitude_thresholds(
            lambda: (self.vectors(start, stop) for start, stop in self.spans), math.prod(self.tensor.shape), densities
        )

    def gram(self) -> Gram:
        """Inner products of the models' vectors (N, N)."""
        count = len(self.tensor.sources)
        gram = np.zeros((count, count))
        for start, stop in self.spans:
            stacked = mx.stack([vector.reshape(-1) for vector in self.vectors(start, stop)])  # (N, n)
            stacked = mx.pad(stacked, [(0, 0), (0, -stacked.shape[1] % PIECE)])
            pieces = stacked.reshape(count, -1, PIECE).swapaxes(0, 1)
            gram += np.array(pieces @ pieces.swapaxes(1, 2), np.float64).sum(axis=0)
        return gram
