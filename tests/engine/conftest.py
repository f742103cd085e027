"""Engine tests check indices, and compile decode steps only on request: each new kernel takes a second of g++."""

from collections.abc import Iterator

import mlx.core as mx
import pytest

from mlx_suite.runtime import debug


@pytest.fixture
def compiled() -> None:
    """Compile decode steps, as in production."""


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


@pytest.fixture(autouse=True)
def checked_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check indices: MLX reads and writes past the end of an array without an error."""
    monkeypatch.setattr(debug, "enabled", True)
