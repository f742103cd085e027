"""Next-token cross-entropy over the tokens that are trained.

Shapes: B rows, L positions, V vocabulary.
"""

import mlx.core as mx

from mlx_suite.modeling.fast_math import logsumexp


def token_losses(logits: mx.array, targets: mx.array) -> mx.array:
    """−log p(target) in nats, fp32: logits (…, V), targets (…) → (…)."""
    picked = mx.take_along_axis(logits, targets[..., None], axis=-1).squeeze(-1)
    return logsumexp(logits) - picked.astype(mx.float32)


def mean_loss(logits: mx.array, targets: mx.array, weights: mx.array) -> mx.array:
    """Mean over the targets by their `weights` (B, L); the caller sees to it that not all are 0."""
    return (token_losses(logits, targets) * weights).sum() / weights.sum()
