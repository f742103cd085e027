"""Runs these tests on the CPU: a GPU sums in another order and uses MLX's own exponentials."""

import mlx_suite  # noqa: F401  (a fast BLAS, before any test module imports MLX)
from tests.on_cpu import on_the_cpu  # noqa: F401
