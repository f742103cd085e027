"""What `modeling/fast_math.py` is worth beside MLX's own operations on this machine."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

from mlx_suite.modeling import fast_math as elementary

PAIRS: dict[str, tuple[Callable[[mx.array], mx.array], Callable[[mx.array], mx.array]]] = {
    "tanh": (elementary.tanh, mx.tanh),
    "sigmoid": (elementary.sigmoid, mx.sigmoid),
    "softmax": (elementary.softmax, lambda x: mx.softmax(x, axis=-1, precise=True)),
    "logsumexp": (elementary.logsumexp, lambda x: mx.logsumexp(x, axis=-1)),
}
"""Ours and MLX's by name. On Metal and CUDA ours is MLX's."""


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """Nanoseconds per element of one function, medians over the rounds."""

    name: str
    ours: float
    builtin: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.builtin / self.ours


def time_exponentials(rows: int = 2048, columns: int = 2048, rounds: int = 5) -> list[Exponential]:
    """Time each pair in turn on (rows, columns) fp32 scores as attention has them."""
    x = mx.random.normal((rows, columns)) * 4.0
    mx.eval(x)
    results = []
    for name, sides in PAIRS.items():
        times: tuple[list[float], list[float]] = ([], [])
        for round_ in range(rounds + 1):
            for side, measured in zip(sides, times, strict=True):
                start = time.perf_counter()
                mx.eval(side(x))
                if round_ > 0:  # the first compiles
                    measured.append((time.perf_counter() - start) / x.size * 1e9)
        ours, builtin = (statistics.median(each) for each in times)
        results.append(Exponential(name=name, ours=ours, builtin=builtin))
    return results
