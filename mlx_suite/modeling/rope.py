"""Rotary position embedding (RoFormer, arXiv 2104.09864) and its scalings for long contexts.

Linear (arXiv 2306.15595), Llama 3.1's, YaRN (arXiv 2309.00071), dynamic NTK and LongRoPE (arXiv 2402.13753), each as
transformers computes it. The last two depend on the length of the sequence: cached keys keep the frequencies of the
length at which they were computed.

Shapes: B batch, H heads, L length, D head dimension.
"""

import math
from typing import Any

import mlx.core as mx

from mlx_suite.modeling.rope_settings import RopeSettings

Length = int | mx.array
"""Tokens of a sequence, its new ones included: one number, or one per row (B,)."""


def inverse_frequencies(rope: RopeSettings, head_dim: int, length: int = 0) -> list[float]:
    """Angle per position of each of the `head_dim / 2` rotated pairs, in radians, in a sequence of `length` tokens.

    The `llama3` rule (Meta's `apply_scaling`): wavelengths shorter than the original context divided by
    `high_freq_factor` are kept, those longer than it divided by `low_freq_factor` are stretched by `factor`,
    and the band between is blended. `yarn` blends by the index of the pair instead.
    """
    theta = rope.theta
    if rope.kind == "dynamic":
        context = rope.original_max_position_embeddings
        growth = rope.factor * max(length, context) / context - (rope.factor - 1)
        theta *= growth ** (head_dim / (head_dim - 2)) if head_dim > 2 else 1.0
    plain = [theta ** (-2.0 * i / head_dim) for i in range(head_dim // 2)]
    if rope.kind in ("default", "dynamic"):
        return plain
    if rope.kind == "linear":
        return [f / rope.factor for f in plain]
    if rope.kind == "longrope":
        divisors = rope.long_factor if length > rope.original_max_position_embeddings else rope.short_factor
        return [f / divisor for f, divisor in zip(plain, divisors, strict=True)]
    if rope.kind == "yarn":
        kept = _kept_by_yarn(rope, head_dim)
    else:
        assert rope.kind == "llama3"
        low, high = rope.low_freq_factor, rope.high_freq_factor
        turns = [rope.original_max_position_embeddings * f / (2 * math.pi) for f in plain]
        kept = [min(1.0, max(0.0, (each - low) / (high - low))) for each in turns]
    return [(1 - share) * f / rope.factor + share * f for f, share in zip(plain, kept, strict=True)]


def _kept_by_yarn(rope: RopeSettings, head_dim: int) -> list[float]:
    """Share of its own frequency that each pair keeps: 1 up to the pair that turns `beta_fast` times in the original
    context, 0 from the one that turns `beta_slow` times.
    """

    def pair(turns: float) -> float:
        context = rope.original_max_position_embeddings
        return head_dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = pair(rope.beta_fast), pair(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    width = high - low or 0.001
    return [1 - min(1.0, max(0.0, (i - low) / width)) for i in range(head_dim // 2)]


BY_LENGTH = ("dynamic", "longrope")
"""Kinds of RoPE whose frequencies depend on the length of the sequence."""


class Rope:
    """Rotates queries and keys by position, pairing element i with i + D / 2, as in Hugging Face checkpoints."""

    def __init__(self, rope: RopeSettings, head_dim: int) -> None:
        self.head_dim, self.settings = head_dim, rope
        # mx.fast.rope takes the reciprocals.
        self.wavelengths = self._wavelengths(0)
        self.by_length = rope.kind in BY_LENGTH
        """Whether the frequencies depend on the length of the sequence."""
        self._amplitude = rope.amplitude

    def __call__(self, x: mx.array, offset: int | mx.array, length: Length | None = None) -> mx.array:
        """Rotate x (B, H, L, D) at positions offset, offset + 1, …; `offset` is one number or one per row, (B,).

        `length`: of the whole sequences, if it is not offset + L; only read if `by_length`.
        """
        if self._amplitude != 1.0:
            x = x * self._amplitude
        if not self.by_length:
            return self._rotate(x, offset, self.wavelengths)
        length = offset + x.shape[2] if length is None else length
        if isinstance(length, int):
            return self._rotate(x, offset, self._wavelengths(length))
        if self.settings.kind == "longrope":
            original = self.settings.original_max_position_embeddings
            long = self._rotate(x, offset, self._wavelengths(original + 1))
            return mx.where((length > original)[:, None, None, None], long, self._rotate(x, offset, self.wavelengths))
        return self._rotate_each(x, offset, length)

    def _wavelengths(self, length: int) -> mx.array:
        frequencies = inverse_frequencies(self.settings, self.head_dim, length)
        return mx.array([1.0 / f for f in frequencies], dtype=mx.float32)

    def _rotate(self, x: mx.array, offset: int | mx.array, wavelengths: mx.array) -> mx.array:
        return mx.fast.rope(
            x,
            self.head_dim,
            traditional=False,
            base=None,
            scale=1.0,
            offset=offset,
            freqs=wavelengths,
        )

    def _rotate_each(self, x: mx.array, offset: int | mx.array, length: mx.array) -> mx.array:
        """Dynamic scaling with frequencies of its own for each row; `mx.fast.rope` takes one set for all."""
        rope, D = self.settings, self.head_dim
        context = rope.original_max_position_embeddings
        growth = rope.factor * mx.maximum(length, context).astype(mx.float32) / context - (rope.factor - 1)
        log_theta = math.log(rope.theta) + mx.log(growth) * (D / (D - 2) if D > 2 else 1.0)  # (B,)
        pairs = mx.arange(D // 2, dtype=mx.float32) * (-2.0 / D)
        frequencies = mx.exp(log_theta[:, None] * pairs)  # (B, D / 2)
        first = mx.array(offset).reshape(-1, 1)
        positions = (first + mx.arange(x.shape[2])).astype(mx.float32)  # (B or 1, L)
        angles = positions[:, None, :, None] * frequencies[:, None, None, :]  # (B, 1, L, D / 2)
        cos, sin = mx.cos(angles), mx.sin(angles)
        left, right = mx.split(x.astype(mx.float32), 2, axis=-1)
        return mx.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1).astype(x.dtype)


def sequence_length(cache: Any) -> Length | None:
    """Length of the sequences, from a cache that knows more than its position: a prompt that is read in chunks, or
    documents packed into a row. None: the position after the new tokens.
    """
    length: Length | None = getattr(cache, "length", None)
    return length
