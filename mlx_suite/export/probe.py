"""How far two models are apart, by their logits on a few tokens.

Shapes: B rows, L positions, V vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx

ROWS, LENGTH = 2, 24
"""Of the probe: enough that no layer goes unseen, quick on a CPU with a model of billions of weights."""

SAFE_VOCABULARY = 256
"""Ids that every model has, where its config does not say how many."""


@dataclass(frozen=True, kw_only=True)
class Distance:
    """Between the logits of two models on the same tokens."""

    largest: float
    """Max |difference|."""
    mean: float
    """Mean |difference|."""
    agreement: float
    """Share of positions where both find the same token most probable."""


def vocabulary_of(config: Mapping[str, Any]) -> int:
    """How many tokens a `config.json` says there are; of a model with parts its text's."""
    text = config.get("text_config")
    size = config.get("vocab_size") or (text.get("vocab_size") if isinstance(text, Mapping) else None)
    return int(size or SAFE_VOCABULARY)


def probe_tokens(vocabulary: int) -> mx.array:
    """(B, L) random token ids, the same ones each time."""
    return mx.random.randint(0, vocabulary, (ROWS, LENGTH), key=mx.random.key(0))


def logits_of(model: Callable[[mx.array], Any], vocabulary: int) -> mx.array:
    """(B, L, V) in fp32, computed."""
    logits: mx.array = model(probe_tokens(vocabulary)).astype(mx.float32)
    mx.eval(logits)
    return logits


def distance(one: mx.array, other: mx.array) -> Distance:
    """How far two sets of logits (B, L, V) are apart; NaN where one of them has a NaN."""
    difference = mx.abs(one - other)
    same = (one.argmax(axis=-1) == other.argmax(axis=-1)).mean()
    return Distance(largest=_number(difference.max()), mean=_number(difference.mean()), agreement=_number(same))


def _number(array: mx.array) -> float:
    return cast(float, array.item())
