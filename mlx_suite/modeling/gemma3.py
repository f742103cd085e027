"""Gemma 3 (arXiv 2503.19786): Gemma 2's block with QK-norm instead of soft-caps, five local layers to a global one.

Local and global layers have RoPE bases of their own, 10,000 and 1,000,000. Image tokens are ordinary ids here.
"""

from functools import partial

from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.decoder import Decoder, DecoderBody
from mlx_suite.modeling.gemma2 import Gemma2Block, UnitOffsetRMSNorm


def gemma3_body(config: ModelConfig) -> DecoderBody:
    """Gemma 3's decoder body; embeddings are scaled by √d."""
    block = partial(Gemma2Block, head_norm=UnitOffsetRMSNorm)
    return DecoderBody(config, block, UnitOffsetRMSNorm, embedding_scale=config.hidden_size**0.5)


class Gemma3(Decoder):
    """tokens (B, L) → logits (B, L, V)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config, gemma3_body(config))
