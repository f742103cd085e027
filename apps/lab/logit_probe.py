"""The largest logits inside a model: attention scores and final logits, both before they are soft-capped.

The model itself is not touched. A twin of the same shape takes over its weights and runs on fixed tokens; the twin's
attention layers record their scores, and its head has no cap.
"""

from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx

from mlx_suite.checkpoints.load import build_model
from mlx_suite.modeling.attention import Attention
from mlx_suite.modeling.decoder import Decoder
from mlx_suite.modeling.masks import Mask, causal_mask


class RecordingAttention(Attention):
    """Attention that keeps its largest score of a forward pass without a cache."""

    def __call__(self, x: mx.array, mask: Mask, cache: Any) -> mx.array:
        assert cache is None, "positions begin at 0"
        B, L, _ = x.shape
        q = self.q_proj(x).reshape(B, L, self.heads, -1).transpose(0, 2, 1, 3)
        k = self.k_proj(x).reshape(B, L, self.key_heads, -1).transpose(0, 2, 1, 3)
        if self._normed:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = self._rope(q, 0), self._rope(k, 0)
        k = mx.repeat(k, self.heads // self.key_heads, axis=1)
        scores = mx.abs((q * self.scale) @ k.swapaxes(-1, -2)).astype(mx.float32)  # (B, H, L, L)
        self._largest = mx.where(causal_mask(L, self.window), scores, 0.0).max()
        return super().__call__(x, mask, cache)

    @property
    def largest(self) -> mx.array:
        """The largest absolute score of a visible key in the last forward pass."""
        return self._largest


@dataclass(frozen=True, kw_only=True)
class LargestLogits:
    """Largest absolute values on the probe's tokens, before soft-capping."""

    attention: float
    """Of the scores of visible keys, over all layers and heads."""
    final: float
    """Of the logits of all positions."""


class LogitProbe:
    """Measures a model while it trains.

    Args:
        tokens: (B, L) token ids.
    """

    def __init__(self, model: Decoder, tokens: mx.array) -> None:
        self._model, self._tokens = model, tokens
        self._twin = build_model(replace(model.config, final_logit_softcapping=None))
        self._twin.eval()
        for layer in self._twin.layers:
            layer.self_attn.__class__ = RecordingAttention

    def measure(self) -> LargestLogits:
        """The largest logits with the model's present weights."""
        self._twin.update(self._model.parameters())
        final = mx.abs(self._twin(self._tokens).astype(mx.float32)).max()
        attention = mx.stack([layer.self_attn.largest for layer in self._twin.layers]).max()
        mx.eval(final, attention)
        return LargestLogits(attention=_number(attention), final=_number(final))


def _number(array: mx.array) -> float:
    value: Any = array.item()
    return float(value)
