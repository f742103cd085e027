"""Imported before any test: the package loads a BLAS, which must happen before a test imports MLX."""

import mlx_suite

assert mlx_suite.__version__
