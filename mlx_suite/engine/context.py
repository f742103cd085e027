"""How long a text a model can hold."""

from typing import Any

UNSTATED = 8192
"""For architectures whose settings do not say."""


def context_length(model: Any) -> int:
    """Tokens that our models and mlx-lm's were made for, prompt and answer together."""
    settings = getattr(model, "config", None) or getattr(model, "args", None)
    stated = getattr(settings, "max_position_embeddings", None)
    return stated if isinstance(stated, int) and stated > 0 else UNSTATED
