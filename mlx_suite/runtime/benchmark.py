"""Speed of this machine: matrix products per second and memory bandwidth.

Each measurement takes less than a second and reports its fastest run; other programs on the same cores lower it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .backend import import_mlx

if TYPE_CHECKING:
    import mlx.core as mx

_GEMM_SIZES = (256, 512, 1024, 2048, 4096, 8192)
_LONG_ENOUGH = 0.02  # seconds: shorter products are dominated by launch overhead
_VECTOR_WIDTH = 4096


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Measured speed of the default device."""

    gemm_float32: float
    """Square float32 matrix product, in GFLOP/s."""
    gemm_bfloat16: float | None
    """Square bfloat16 matrix product, in GFLOP/s; None on the CPU, which runs float32."""
    copy_bandwidth: float
    """Elementwise copy of a large array, in GB/s read plus written."""
    gemv_bandwidth: float
    """Matrix-vector product, in GB/s of the matrix, in the fastest form: decoding's bottleneck at batch size 1."""


def measure_speed(kind: str, memory_bytes: int, seconds: float = 0.4) -> Speed:
    """Measure the default device.

    Args:
        kind: `Device.kind`.
        memory_bytes: Usable memory; the largest array takes 1/32 of it, at most 256 MiB.
        seconds: Time for each measurement.
    """
    matrix = _large_matrix(kind, memory_bytes)
    return Speed(
        gemm_float32=gemm_gflops("float32", seconds),
        gemm_bfloat16=gemm_gflops("bfloat16", seconds) if kind != "cpu" else None,
        copy_bandwidth=2 * matrix.nbytes / best_time(lambda: matrix + 1, seconds) / 1e9,
        gemv_bandwidth=gemv_bandwidth(kind, memory_bytes, seconds),
    )


def gemv_bandwidth(kind: str, memory_bytes: int, seconds: float = 0.4) -> float:
    """`Speed.gemv_bandwidth` alone; arguments as for `measure_speed`."""
    if kind == "cpu":
        from .few_rows import decode_bandwidth  # imports this module

        return decode_bandwidth(seconds)
    mx = import_mlx()
    matrix = _large_matrix(kind, memory_bytes)
    vector = mx.ones((_VECTOR_WIDTH,), matrix.dtype)
    mx.eval(vector)
    return float(matrix.nbytes / best_time(lambda: matrix @ vector, seconds) / 1e9)


def _large_matrix(kind: str, memory_bytes: int) -> mx.array:
    """A matrix in the dtype that the device decodes with: 16 bits on a GPU, float32 on the CPU."""
    mlx = import_mlx()
    rows = min(memory_bytes // 32, 2**28) // (4 * _VECTOR_WIDTH)
    on_gpu = kind != "cpu"
    matrix: mx.array = mlx.ones(
        (max(rows, 256) * (2 if on_gpu else 1), _VECTOR_WIDTH),
        mlx.bfloat16 if on_gpu else mlx.float32,
    )
    mlx.eval(matrix)
    return matrix


def gemm_gflops(dtype: str, seconds: float = 0.4) -> float:
    """GFLOP/s of a square matrix product, with the smallest size whose product takes 20 ms."""
    mx = import_mlx()
    for size in _GEMM_SIZES:
        a, b = (mx.random.uniform(shape=(size, size)).astype(getattr(mx, dtype)) for _ in range(2))
        mx.eval(a, b)
        if best_time(lambda a=a, b=b: a @ b, 0.0) >= _LONG_ENOUGH:  # type: ignore[misc]
            break
    return float(2 * size**3 / best_time(lambda: a @ b, seconds) / 1e9)


def best_time(work: Callable[[], mx.array | list[mx.array]], seconds: float) -> float:
    """Seconds of the fastest run of `work` within `seconds`, after a warm-up; at least one run."""
    evaluate: Any = import_mlx().eval
    evaluate(work())
    best = float("inf")
    end = time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        evaluate(work())
        now = time.perf_counter()
        best = min(best, now - start)
        if now >= end:
            return best
