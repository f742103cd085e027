"""Fixtures for tests of the commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.magpie.random_checkpoint import write_checkpoint


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model that generates short texts of the letters a, b, c."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(autouse=True)
def narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the terminal to 60 columns, without colors."""
    for name, value in {"COLUMNS": "60", "TERM": "dumb", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """Run on the CPU without `mx.compile`, which takes a second per new kernel."""
    import mlx.core as mx

    usual = mx.default_device()
    mx.set_default_device(mx.cpu)
    mx.disable_compile()
    yield
    mx.enable_compile()
    mx.set_default_device(usual)
