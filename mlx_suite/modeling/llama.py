"""Llama 3, 3.1, 3.2 and Mistral: pre-norm, grouped-query attention, SwiGLU (arXiv 2407.21783, 2310.06825).

Mistral has the same block with a sliding window.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.modeling.attention import Attention, MakeNorm
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.decoder import Decoder, DecoderBody, GatedMLP
from mlx_suite.modeling.fast_math import silu
from mlx_suite.modeling.masks import Mask
from mlx_suite.modeling.rope import Rope


class LlamaBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: ModelConfig, window: int | None, rope: Rope, head_norm: MakeNorm | None = None) -> None:
        super().__init__()
        self.self_attn = Attention(config, window, rope, head_norm)
        self.mlp = GatedMLP(config, silu)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def __call__(self, x: mx.array, mask: Mask, cache: Any) -> mx.array:
        x = x + self.self_attn(self.input_layernorm(x), mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


def llama_body(config: ModelConfig) -> DecoderBody:
    return DecoderBody(config, LlamaBlock, nn.RMSNorm)


class Llama(Decoder):
    """tokens (B, L) → logits (B, L, V)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, llama_body(config))
