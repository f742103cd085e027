"""Rotary position embedding (RoFormer, arXiv 2104.09864) with Llama 3.1's frequency scaling.

Shapes: B batch, H heads, L length, D head dimension.
"""

import math

import mlx.core as mx

from mlx_suite.modeling.config import RopeSettings


def inverse_frequencies(rope: RopeSettings, head_dim: int) -> list[float]:
    """Angle per position of each of the `head_dim / 2` rotated pairs, in radians.

    The `llama3` rule (Meta's `apply_scaling`): wavelengths shorter than the original context divided by
    `high_freq_factor` are kept, those longer than it divided by `low_freq_factor` are stretched by `factor`,
    and the band between is blended.
    """
    plain = [rope.theta ** (-2.0 * i / head_dim) for i in range(head_dim // 2)]
    if rope.kind == "default":
        return plain
    if rope.kind == "linear":
        return [f / rope.factor for f in plain]
    assert rope.kind == "llama3"
    low, high = rope.low_freq_factor, rope.high_freq_factor
    scaled = []
    for frequency in plain:
        turns = rope.original_max_position_embeddings * frequency / (2 * math.pi)
        smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
        scaled.append((1 - smooth) * frequency / rope.factor + smooth * frequency)
    return scaled


class Rope:
    """Rotates queries and keys by position, pairing element i with i + D / 2, as in Hugging Face checkpoints."""

    def __init__(self, rope: RopeSettings, head_dim: int) -> None:
        self.head_dim = head_dim
        # mx.fast.rope takes the reciprocals.
        self.wavelengths = mx.array([1.0 / f for f in inverse_frequencies(rope, head_dim)], dtype=mx.float32)

    def __call__(self, x: mx.array, offset: int | mx.array) -> mx.array:
        """Rotate x (B, H, L, D) at positions offset, offset + 1, …; `offset` is one number or one per row, (B,)."""
        return mx.fast.rope(
            x,
            self.head_dim,
            traditional=False,
            base=None,
            scale=1.0,
            offset=offset,
            freqs=self.wavelengths,
        )
