"""Runs these tests on the CPU: GPUs multiply fp32 with fewer bits and have another precision policy."""

from collections.abc import Iterator

import pytest

import mlx_suite  # noqa: F401  (a fast BLAS, before any test module imports MLX)


@pytest.fixture(autouse=True)
def on_the_cpu() -> Iterator[None]:
    import mlx.core as mx

    usual = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(usual)
