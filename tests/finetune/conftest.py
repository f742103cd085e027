"""A model to finetune, on the CPU in fp32."""

from pathlib import Path

import pytest

import mlx_suite  # noqa: F401  (a fast BLAS, before any test module imports MLX)
from tests.magpie.random_checkpoint import write_checkpoint
from tests.on_cpu import on_the_cpu  # noqa: F401


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer model with a character tokenizer and Llama 3's template."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "random", letters="0123456789 +")
