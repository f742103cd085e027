"""Gemma 2 (arXiv 2408.00118): alternating local and global layers, four norms, two soft-caps, GeGLU."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.modeling.attention import Attention, MakeNorm
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.decoder import Decoder, DecoderBody, GatedMLP
from mlx_suite.modeling.fast_math import gelu_tanh
from mlx_suite.modeling.masks import Mask
from mlx_suite.modeling.rope import Rope


class UnitOffsetRMSNorm(nn.Module):
    """RMS norm times (1 + weight), computed in fp32: bf16 would lose most of a small weight."""

    def __init__(self, dims: int, eps: float) -> None:
        super().__init__()
        self.weight = mx.zeros((dims,))
        self.eps = eps

    def __call__(self, x: mx.array) -> mx.array:
        scale = 1.0 + self.weight.astype(mx.float32)
        return mx.fast.rms_norm(x.astype(mx.float32), scale, self.eps).astype(x.dtype)


class Gemma2Block(nn.Module):
    """x + norm(attention(norm(x))), then x + norm(mlp(norm(x)))."""

    def __init__(self, config: ModelConfig, window: int | None, rope: Rope, head_norm: MakeNorm | None = None) -> None:
        super().__init__()
        d, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = Attention(config, window, rope, head_norm)
        self.mlp = GatedMLP(config, gelu_tanh)
        self.input_layernorm = UnitOffsetRMSNorm(d, eps)
        self.post_attention_layernorm = UnitOffsetRMSNorm(d, eps)
        self.pre_feedforward_layernorm = UnitOffsetRMSNorm(d, eps)
        self.post_feedforward_layernorm = UnitOffsetRMSNorm(d, eps)

    def __call__(self, x: mx.array, mask: Mask, cache: Any) -> mx.array:
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), mask, cache))
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


def gemma2_body(config: ModelConfig) -> DecoderBody:
    """Gemma 2's decoder body; embeddings are scaled by √d."""
    return DecoderBody(config, Gemma2Block, UnitOffsetRMSNorm, embedding_scale=config.hidden_size**0.5)


class Gemma2(Decoder):
    """tokens (B, L) → soft-capped logits (B, L, V)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, gemma2_body(config))
