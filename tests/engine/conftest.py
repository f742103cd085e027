"""Indices are checked, and steps compile only where a test asks for it: each new kernel costs a second of g++."""

from collections.abc import Iterator

import mlx.core as mx
import pytest

from mlx_suite.runtime import debug


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


@pytest.fixture(autouse=True)
def checked_indices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Indices are checked: MLX reads and writes past an array's end without an error."""
    monkeypatch.setattr(debug, "enabled", True)
