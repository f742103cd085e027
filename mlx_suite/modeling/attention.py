"""Attention for all families: grouped-query heads, optional sliding window, optional soft-cap.

Shapes: B batch, H query heads, K key/value heads, G = H / K queries that share a key head, L new tokens,
S keys seen, D head dimension.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.modeling.block_attention import BLOCK, attend_in_blocks
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.fast_math import built_in_is_slow, softcap, softmax
from mlx_suite.modeling.joined import Joining
from mlx_suite.modeling.linear import Linear
from mlx_suite.modeling.masks import Mask, RowMask, causal_mask
from mlx_suite.modeling.rope import Rope, sequence_length

SCORES = 2**21
"""Scores that exist at a time, 8 MiB in fp32. On the CPU (measured, 8,192 keys) more take memory and are no faster."""
FEWEST = 32
"""Queries that are always taken together: with fewer, every product would read keys and values for too little work."""


def attend(q: mx.array, k: mx.array, v: mx.array, scale: float, cap: float | None, mask: Mask) -> mx.array:
    """Attention of q (B, H, L, D) over k, v (B, K, S, D): scale, cap, mask, fp32 softmax, in that order.

    Adjacent query heads share a key head (repeat_interleave, not tile). One of three ways is taken:

    * `mx.fast.scaled_dot_product_attention`, if it is fast and there is no cap, which it lacks (Gemma 2 report, section
      2). On the CPU backend it is composed of the same operations as below, with a slow softmax.
    * Blocks of queries, for whole rows longer than a block, unless the first way takes them without a mask array.
    * All L × S scores; on a CPU those of a few queries at a time, since a chunk of a long prompt has millions.
    """
    slow = built_in_is_slow(q)
    built_in, is_whole = cap is None and not slow, isinstance(mask, RowMask)
    if isinstance(mask, RowMask):
        if mask.length > BLOCK and not (built_in and mask.plain):
            return attend_in_blocks(q, k, v, scale, cap, mask, BLOCK)
        mask = "causal" if mask.plain else mask.array
    if built_in:
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
    B, H, L, D = q.shape
    K, S = k.shape[1], k.shape[2]
    if slow and not is_whole and L > FEWEST and B * H * L * S > SCORES:
        return _attend_in_parts(q, k, v, scale, cap, mask)
    grouped = (q * scale).reshape(B, K, H // K * L, D)
    scores = (grouped @ k.swapaxes(-1, -2)).reshape(B, K, H // K, L, S)
    if cap is not None:
        scores = softcap(scores, cap)
    if isinstance(mask, str):
        mask = causal_mask(L, before=S - L)
    if mask is not None:
        visible = mask[:, :, None] if mask.ndim == 4 else mask
        scores = mx.where(visible, scores, mx.finfo(scores.dtype).min)
    weights = softmax(scores).reshape(B, K, H // K * L, S)
    return (weights @ v).reshape(B, H, L, D)


def _attend_in_parts(
    q: mx.array, k: mx.array, v: mx.array, scale: float, cap: float | None, mask: mx.array | str | None
) -> mx.array:
    """`attend` for as many queries at a time as have `SCORES` scores, at least `FEWEST`, one part after the other."""
    B, H, L, _ = q.shape
    S = k.shape[2]
    size = max(FEWEST, SCORES // (B * H * S))
    outputs: list[mx.array] = []
    for start in range(0, L, size):
        stop = min(start + size, L)
        [part] = mx.depends([q[:, :, start:stop]], outputs[-1:])
        own, seen = mask, S
        if isinstance(mask, str):
            seen = S - L + stop  # causal: keys after the part's last query are not read
        elif mask is not None and mask.shape[-2] > 1:
            own = mask[..., start:stop, :]
        outputs.append(attend(part, k[:, :, :seen], v[:, :, :seen], scale, cap, own))
    return mx.concatenate(outputs, axis=2)


MakeNorm = Callable[[int, float], nn.Module]
"""Makes a norm from its number of dimensions and its epsilon."""


class Attention(Joining):
    """Self-attention of one layer; `window` is the number of keys a query sees, its own included.

    With `head_norm`, each head's queries and keys are normalised before RoPE (QK-norm, arXiv 2302.05442).
    """

    same_input = ("q_proj", "k_proj", "v_proj")

    def __init__(self, config: ModelConfig, window: int | None, rope: Rope, head_norm: MakeNorm | None = None) -> None:
        super().__init__()
        d, D = config.hidden_size, config.head_dim
        H, K = config.num_attention_heads, config.num_key_value_heads
        self.heads, self.key_heads = H, K
        self.scale, self.cap, self.window = config.scale, config.attn_logit_softcapping, window
        self._rope, self._head_dim = rope, D
        self.q_proj = Linear(d, H * D, bias=config.attention_bias)
        self.k_proj = Linear(d, K * D, bias=config.attention_bias)
        self.v_proj = Linear(d, K * D, bias=config.attention_bias)
        self.o_proj = Linear(H * D, d, bias=config.attention_bias)
        if head_norm is not None:
            self.q_norm = head_norm(D, config.rms_norm_eps)
            self.k_norm = head_norm(D, config.rms_norm_eps)
        self._normed = head_norm is not None

    def __call__(self, x: mx.array, mask: Mask, cache: Any) -> mx.array:
        B, L, _ = x.shape
        q, k, v = self._rotated(x, cache)
        if cache is not None:
            k, v = cache.update_and_fetch(k, v)
        out = attend(q, k, v, self.scale, self.cap, mask)  # (B, H, L, D)
        return self.o_proj(out.transpose(0, 2, 1, 3).reshape(B, L, -1))

    def _rotated(self, x: mx.array, cache: Any) -> tuple[mx.array, mx.array, mx.array]:
        """Queries (B, H, L, D) and keys (B, K, L, D), both with RoPE, and values (B, K, L, D)."""
        offset = 0 if cache is None else cache.offset
        length = sequence_length(cache) if self._rope.by_length else None
        joined = None if self._normed else self.joined_output(x)
        if joined is not None:
            # One rotation for all heads: small operations cost as much time to start as to compute.
            turned, v = mx.split(self._by_head(joined), [self.heads + self.key_heads], axis=1)
            q, k = mx.split(self._rope(turned, offset, length), [self.heads], axis=1)
            return q, k, v
        q, k, v = (self._by_head(each) for each in self.outputs(x))
        if self._normed:
            q, k = self.q_norm(q), self.k_norm(k)
        return self._rope(q, offset, length), self._rope(k, offset, length), v

    def _by_head(self, x: mx.array) -> mx.array:
        B, L, _ = x.shape
        return x.reshape(B, L, -1, self._head_dim).transpose(0, 2, 1, 3)
