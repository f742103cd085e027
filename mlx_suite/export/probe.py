"""Distance between two models, measured by their logits on a few tokens.

Shapes: B rows, L positions, V vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx

ROWS, LENGTH = 2, 24
"""Shape of the probe: enough to involve every layer, fast on a CPU with billions of weights."""

SAFE_VOCABULARY = 256
"""Vocabulary size assumed if the configuration does not state one."""


@dataclass(frozen=True, kw_only=True)
class Distance:
    """Distance between the logits of two models on the same tokens."""

    largest: float
    """Maximum absolute difference."""
    mean: float
    """Mean absolute difference."""
    agreement: float
    """Fraction of positions with the same most probable token."""


def vocabulary_of(config: Mapping[str, Any]) -> int:
    """Vocabulary size in a `config.json`, or in that of its text model if it is multimodal."""
    text = config.get("text_config")
    size = config.get("vocab_size") or (text.get("vocab_size") if isinstance(text, Mapping) else None)
    return int(size or SAFE_VOCABULARY)


def probe_tokens(vocabulary: int) -> mx.array:
    """(B, L) random token ids, always the same."""
    return mx.random.randint(0, vocabulary, (ROWS, LENGTH), key=mx.random.key(0))


def logits_of(model: Callable[[mx.array], Any], vocabulary: int) -> mx.array:
    """(B, L, V) logits of the probe in fp32, evaluated."""
    logits: mx.array = model(probe_tokens(vocabulary)).astype(mx.float32)
    mx.eval(logits)
    return logits


def distance(one: mx.array, other: mx.array) -> Distance:
    """Distance between two arrays of logits (B, L, V); NaN if either contains NaN."""
    difference = mx.abs(one - other)
    same = (one.argmax(axis=-1) == other.argmax(axis=-1)).mean()
    return Distance(largest=_number(difference.max()), mean=_number(difference.mean()), agreement=_number(same))


def _number(array: mx.array) -> float:
    return cast(float, array.item())
