"""NEFTune (arXiv 2310.05914): noise on the embeddings while training, so that answers are learned less by heart.

Shapes: B rows, L positions, d hidden size.
"""

import mlx.core as mx
import mlx.nn as nn


def add_noise(embedding: nn.Module, alpha: float) -> None:
    """Let `embedding` add uniform noise of size `alpha` / √(L·d) to what it gives out, in training mode only."""
    kind = type(embedding)

    def call(module: nn.Module, tokens: mx.array) -> mx.array:
        x: mx.array = kind.__call__(module, tokens)
        if not module.training:
            return x
        size = alpha / (x.shape[-2] * x.shape[-1]) ** 0.5
        return x + mx.random.uniform(-size, size, x.shape).astype(x.dtype)  # (B, L, d)

    embedding.__class__ = type(kind.__name__, (kind,), {"__call__": call, "quiet": kind})


def remove_noise(embedding: nn.Module) -> None:
    """Undo `add_noise`."""
    embedding.__class__ = getattr(type(embedding), "quiet", type(embedding))
