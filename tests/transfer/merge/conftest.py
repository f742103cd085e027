"""Models to merge, on the CPU: a GPU sums in another order."""

import pytest

import mlx_suite  # noqa: F401  (a fast BLAS, before any test module imports MLX)
from tests.export.checkpoints import random_checkpoint


@pytest.fixture(scope="session")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Folders of a base model and three models near it, in fp32 and with one tokenizer."""
    from tests.transfer.merge.models import near

    folder = tmp_path_factory.mktemp("llamas")
    random_checkpoint(folder / "base", "llama", vocab_size=2048, hidden_size=16, head_dim=8, intermediate_size=24)
    return [str(folder / "base"), *(str(near(folder / "base", folder / f"m{seed}", seed)) for seed in (1, 2, 3))]
