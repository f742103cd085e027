"""Qwen 3, the dense models (arXiv 2505.09388): Llama's block with QK-norm and no biases."""

from functools import partial

import mlx.nn as nn

from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.decoder import Decoder, DecoderBody
from mlx_suite.modeling.llama import LlamaBlock


def qwen3_body(config: ModelConfig) -> DecoderBody:
    return DecoderBody(config, partial(LlamaBlock, head_norm=nn.RMSNorm), nn.RMSNorm)


class Qwen3(Decoder):
    """tokens (B, L) → logits (B, L, V)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, qwen3_body(config))
