"""Runs these tests on the CPU: GPUs multiply fp32 with fewer bits and have another precision policy."""

import mlx_suite  # noqa: F401  (a fast BLAS, before any test module imports MLX)
from tests.on_cpu import on_the_cpu  # noqa: F401
