"""Runs these tests on the CPU in fp32, with a student and a teacher."""

from pathlib import Path

import pytest

import mlx_suite  # noqa: F401  (a fast BLAS, before any test module imports MLX)
from tests.magpie.random_checkpoint import write_checkpoint
from tests.on_cpu import on_the_cpu  # noqa: F401


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer model with a character tokenizer and Llama 3's template."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "student", letters="0123456789 +")


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same vocabulary that writes other letters, and ends its texts sooner."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "teacher", letters="0123456789", end=0.5)
