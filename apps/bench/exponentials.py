"""Speed of `modeling/fast_math.py` compared with MLX's built-in operations."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx

from mlx_suite.modeling import fast_math

PAIRS: dict[str, tuple[Callable[[mx.array], mx.array], Callable[[mx.array], mx.array]]] = {
    "tanh": (fast_math.tanh, mx.tanh),
    "sigmoid": (fast_math.sigmoid, mx.sigmoid),
    "softmax": (fast_math.softmax, lambda x: mx.softmax(x, axis=-1, precise=True)),
    "logsumexp": (fast_math.logsumexp, lambda x: mx.logsumexp(x, axis=-1)),
}
"""Our function and MLX's, by name. On Metal and CUDA ours calls MLX's."""


@dataclass(frozen=True, kw_only=True)
class Exponential:
    """Nanoseconds per element of one function: medians over the rounds."""

    name: str
    ours: float
    builtin: float

    @property
    def ratio(self) -> float:
        """MLX's time over ours."""
        return self.builtin / self.ours


def time_exponentials(rows: int = 2048, columns: int = 2048, rounds: int = 5) -> list[Exponential]:
    """Time each pair alternately on a (rows, columns) fp32 array of attention-like scores."""
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
