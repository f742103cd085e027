"""Llama 3, 3.1, 3.2 and Mistral: pre-norm, grouped-query attention, SwiGLU (arXiv 2407.21783, 2310.06825).

Mistral is the same block with a sliding window. Parameters carry Hugging Face's names, so a checkpoint loads
without a map. Shapes: B batch, L length, d hidden size, V vocabulary.
"""

from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.modeling.attention import Attention
from mlx_suite.modeling.cache import layer_caches
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.fast_math import silu
from mlx_suite.modeling.masks import Mask, attention_mask
from mlx_suite.modeling.rope import Rope

T = TypeVar("T")


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, ff, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(d, ff, bias=bias)
        self.up_proj = nn.Linear(d, ff, bias=bias)
        self.down_proj = nn.Linear(ff, d, bias=bias)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: ModelConfig, window: int | None, rope: Rope) -> None:
        super().__init__()
        self.self_attn = Attention(config, window, rope)
        self.mlp = MLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def __call__(self, x: mx.array, mask: Mask, cache: Any) -> mx.array:
        x = x + self.self_attn(self.input_layernorm(x), mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    """Embedding, blocks, final norm: what Hugging Face calls `model`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        rope = Rope(config.rope, config.head_dim)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [Block(config, window, rope) for window in config.windows]
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def __call__(self, tokens: mx.array, cache: list[Any] | None = None) -> mx.array:
        x = self.embed_tokens(tokens)  # (B, L, d)
        caches = cache or [None] * len(self.layers)
        # Layers of one window share a mask; every cache of a kind stands at the same position.
        masks: dict[int | None, Mask] = {}
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            window = layer.self_attn.window
            if window not in masks:
                masks[window] = attention_mask(tokens.shape[1], layer_cache, window)
            x = layer(x, masks[window], layer_cache)
        return self.norm(x)


class Llama(nn.Module):
    """tokens (B, L) → logits (B, L, V). `cache`, if given, holds one entry per layer and is advanced."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._config = config
        self.model = Body(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def __call__(self, tokens: mx.array, cache: list[Any] | None = None) -> mx.array:
        return self.head(self.model(tokens, cache))

    def head(self, hidden: mx.array) -> mx.array:
        """Hidden states (…, d) → logits (…, V)."""
        if self._config.tie_word_embeddings:
            return self.model.embed_tokens.as_linear(hidden)
        return self.lm_head(hidden)

    @property
    def config(self) -> ModelConfig:
        return self._config

    @property
    def layers(self) -> list[Block]:
        return self.model.layers

    def make_cache(self) -> list[Any]:
        """mlx-lm caches, one per layer: rotating where a layer has a window."""
        return layer_caches(self._config.windows)

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        """Drop what old exports carry and no model of this shape uses."""
        return drop_unused(weights, self._config)


def drop_unused(weights: dict[str, T], config: ModelConfig) -> dict[str, T]:
    """Without precomputed RoPE frequencies and, where the head is tied, without its copy."""
    unused = ("lm_head.",) if config.tie_word_embeddings else ()
    return {
        name: value
        for name, value in weights.items()
        if not name.startswith(unused) and not name.endswith("rotary_emb.inv_freq")
    }
