"""What the commands are tried on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.magpie.random_checkpoint import write_checkpoint


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that writes short texts of the letters a, b, c."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(autouse=True)
def narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 columns, no colours."""
    for name, value in {"COLUMNS": "60", "TERM": "dumb", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """On the CPU, without `mx.compile`, which takes a second for each new kernel."""
    import mlx.core as mx

    usual = mx.default_device()
    mx.set_default_device(mx.cpu)
    mx.disable_compile()
    yield
    mx.enable_compile()
    mx.set_default_device(usual)
