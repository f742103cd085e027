"""One checkpoint as both sides of a benchmark hold it."""

from pathlib import Path
from typing import Any

from mlx_suite.runtime.errors import UserError


def our_model(folder: Path) -> Any:
    """Our model of a checkpoint. Raises UserError where it is none of ours."""
    from mlx_suite.checkpoints.load import load_model

    model = load_model(folder)
    if not hasattr(model, "config"):
        raise UserError(
            what="this model is mlx-lm's own, so there is nothing to compare",
            where=str(folder),
            fix="name a Llama, a Mistral or a Gemma 2",
        )
    return model


def their_model(folder: Path) -> Any:
    """mlx-lm's model in the precision of ours: float32 on a CPU."""
    import mlx.core as mx
    from mlx_lm.utils import load_model

    from mlx_suite.runtime.device import device

    model = load_model(folder)[0]
    if device().kind == "cpu":
        model.set_dtype(mx.float32)
        mx.eval(model.parameters())
    return model
