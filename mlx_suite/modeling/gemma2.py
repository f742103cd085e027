"""Gemma 2 (arXiv 2408.00118): alternating local and global layers, four norms, two soft-caps, GeGLU.

Parameters carry Hugging Face's names. Shapes: B batch, L length, d hidden size, V vocabulary.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.modeling.attention import Attention
from mlx_suite.modeling.cache import layer_caches
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.fast_math import gelu_tanh, softcap
from mlx_suite.modeling.llama import drop_unused
from mlx_suite.modeling.masks import Mask, attention_mask
from mlx_suite.modeling.rope import Rope


class UnitOffsetRMSNorm(nn.Module):
    """RMS norm times (1 + weight), all in fp32, then cast: bf16 would lose most of a small weight."""

    def __init__(self, dims: int, eps: float) -> None:
        super().__init__()
        self.weight = mx.zeros((dims,))
        self.eps = eps

    def __call__(self, x: mx.array) -> mx.array:
        scale = 1.0 + self.weight.astype(mx.float32)
        return mx.fast.rms_norm(x.astype(mx.float32), scale, self.eps).astype(x.dtype)


class MLP(nn.Module):
    """GeGLU: down(gelu(gate(x)) · up(x)), gelu by its tanh approximation."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d, ff = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(d, ff, bias=False)
        self.up_proj = nn.Linear(d, ff, bias=False)
        self.down_proj = nn.Linear(ff, d, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down_proj(gelu_tanh(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Each sublayer is normed on its way in and on its way out, before the residual sum."""

    def __init__(self, config: ModelConfig, window: int | None, rope: Rope) -> None:
        super().__init__()
        d, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = Attention(config, window, rope)
        self.mlp = MLP(config)
        self.input_layernorm = UnitOffsetRMSNorm(d, eps)
        self.post_attention_layernorm = UnitOffsetRMSNorm(d, eps)
        self.pre_feedforward_layernorm = UnitOffsetRMSNorm(d, eps)
        self.post_feedforward_layernorm = UnitOffsetRMSNorm(d, eps)

    def __call__(self, x: mx.array, mask: Mask, cache: Any) -> mx.array:
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), mask, cache))
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


class Body(nn.Module):
    """Scaled embedding, blocks, final norm: what Hugging Face calls `model`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        rope = Rope(config.rope, config.head_dim)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [Block(config, window, rope) for window in config.windows]
        self.norm = UnitOffsetRMSNorm(config.hidden_size, config.rms_norm_eps)
        self._scale = config.hidden_size**0.5

    def __call__(self, tokens: mx.array, cache: list[Any] | None = None) -> mx.array:
        x = self.embed_tokens(tokens)  # (B, L, d)
        x = x * embedding_scale(self._scale, x.dtype)
        caches = cache or [None] * len(self.layers)
        masks: dict[int | None, Mask] = {}
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            window = layer.self_attn.window
            if window not in masks:
                masks[window] = attention_mask(tokens.shape[1], layer_cache, window)
            x = layer(x, masks[window], layer_cache)
        return self.norm(x)


def embedding_scale(scale: float, dtype: mx.Dtype) -> mx.array:
    """√d as the activations can hold it: in bf16 √3584 = 59.87 is 59.75, and the weights were trained so."""
    return mx.array(scale, dtype=mx.float32).astype(dtype)


class Gemma2(nn.Module):
    """tokens (B, L) → logits (B, L, V), capped. `cache`, if given, holds one entry per layer and is advanced."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self._config = config
        self.model = Body(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def __call__(self, tokens: mx.array, cache: list[Any] | None = None) -> mx.array:
        return self.head(self.model(tokens, cache))

    def head(self, hidden: mx.array) -> mx.array:
        """Hidden states (…, d) → capped logits (…, V)."""
        # Every published Gemma 2 ties its head; a finetuned one may have its own.
        tied = self._config.tie_word_embeddings
        logits = self.model.embed_tokens.as_linear(hidden) if tied else self.lm_head(hidden)
        cap = self._config.final_logit_softcapping
        return logits if cap is None else softcap(logits, cap)

    @property
    def config(self) -> ModelConfig:
        return self._config

    @property
    def layers(self) -> list[Block]:
        return self.model.layers

    def make_cache(self) -> list[Any]:
        """mlx-lm caches, one per layer: rotating on the local layers, so they keep W keys and no more."""
        return layer_caches(self._config.windows)

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        """Drop what old exports carry and no model of this shape uses."""
        return drop_unused(weights, self._config)
