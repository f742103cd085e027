"""Log-probabilities of labels behind a slot's text, all labels in one pass.

Shapes: N labels, T tokens of the longest, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any, cast

import mlx.core as mx

from mlx_suite.engine.slots import Peek, SlotCache
from mlx_suite.modeling.elementary import logsumexp


def label_log_probs(
    model: Any,
    caches: Sequence[SlotCache],
    slot: int,
    position: int,
    last: int,
    labels: Sequence[Sequence[int]],
) -> list[float]:
    """log p(label | text) in nats, summed over a label's tokens.

    The slot holds `position` tokens; `last` is the one behind them, whose output predicts a label's first token.
    """
    assert labels and all(labels), "a label has at least one token"
    longest = max(map(len, labels))
    # Padding comes last, where causal attention hides it from all that counts.
    padded = [list(label) + [0] * (longest - len(label)) for label in labels]
    fed = mx.array([[last, *label[:-1]] for label in padded])  # (N, T)
    logits = model(fed, cache=[Peek(cache, slot, position) for cache in caches])  # (N, T, V)
    targets = mx.array(padded)[..., None]
    log_probs = mx.take_along_axis(logits, targets, axis=-1).squeeze(-1).astype(mx.float32) - logsumexp(logits)
    real = mx.array([[i < len(label) for i in range(longest)] for label in labels])
    return cast(list[float], mx.where(real, log_probs, 0.0).sum(axis=-1).tolist())
