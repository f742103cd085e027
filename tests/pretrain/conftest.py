"""A tokenizer of single letters, and a two-layer checkpoint, on the CPU in fp32."""

from pathlib import Path

import pytest

import mlx_suite  # noqa: F401  (a fast BLAS, before any test module imports MLX)
from tests.magpie.random_checkpoint import write_checkpoint
from tests.on_cpu import on_the_cpu  # noqa: F401


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a two-layer Llama whose tokens are bytes and Llama 3.1's special tokens."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "letters")
