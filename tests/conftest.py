"""Imported before any test: the package loads a BLAS, which must happen before a test imports MLX."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

import mlx_suite

assert mlx_suite.__version__

# A run in the background inherits an ignored Ctrl-C; the tests of Ctrl-C, and the programs they start, need a live one.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests never time anything: what an example takes depends on who else is using the machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """Turn off `mx.compile`, which takes a second for each new kernel."""
    import mlx.core as mx

    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.fixture
def rows_by_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of every product that reads a copy in blocks; of a compiled step, when it is traced."""
    from mlx_suite.modeling import linear

    rows: list[int] = []
    multiply_blocks = linear.multiply_blocks

    def note(x: Any, blocks: Any) -> Any:
        rows.append(x.shape[0])
        return multiply_blocks(x, blocks)

    monkeypatch.setattr(linear, "multiply_blocks", note)
    return rows
