"""A fixture for tests that run on the CPU, in fp32: a GPU sums in another order."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def on_the_cpu() -> Iterator[None]:
    import mlx.core as mx

    usual = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(usual)
