"""Next-token cross-entropy, without reduction.

Shapes: V vocabulary.
"""

import mlx.core as mx

from mlx_suite.modeling.fast_math import logsumexp


def token_losses(logits: mx.array, targets: mx.array) -> mx.array:
    """−log p(target) in nats, fp32: logits (…, V), targets (…) → (…)."""
    picked = mx.take_along_axis(logits, targets[..., None], axis=-1).squeeze(-1)
    return logsumexp(logits) - picked.astype(mx.float32)
