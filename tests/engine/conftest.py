"""Steps are compiled only in the tests that ask for it: on a fresh machine each new kernel costs a second of g++."""

from collections.abc import Iterator

import mlx.core as mx
import pytest


@pytest.fixture
def compiled() -> None:
    """Steps are compiled, as they are in use."""


@pytest.fixture(autouse=True)
def plain_unless_compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    if "compiled" in request.fixturenames:
        yield
        return
    mx.disable_compile()
    try:
        yield
    finally:
        mx.enable_compile()
