"""Attention of whole rows in memory linear in their length, with a backward pass of its own (FlashAttention).

Plain attention keeps the weights of all L × L pairs for the backward pass. Here queries are taken in blocks, and the
weights of a block are discarded once they are used (arXiv 2205.14135, 2307.08691). For one query with scores s:

    p_j = exp(s_j − lse),  lse = log Σ exp(s_j),  o = Σ p_j v_j

The forward pass keeps o and one number, lse, from which the backward pass computes the weights p again. From do, the
gradient of o:

    dv_j += p_j do,  dp_j = do · v_j,  ds_j = p_j (dp_j − Σ p_i dp_i),  dq = Σ ds_j k_j,  dk_j += ds_j q

Σ p_i dp_i equals do · o, which takes no pass over the keys. A soft-cap s = c tanh(x / c) multiplies ds by its
derivative, 1 − (s / c)².

A block reads only keys that its queries may see: none after them, and none before the window or the reach of the
longest document. It reads them at once; the papers read keys in blocks too, to fit into a GPU's on-chip memory.

Shapes: B batch, H query heads, K key/value heads, G = H / K queries that share a key head, L positions, D head
dimension. In a block: Q queries, S keys, R = G · Q rows of queries per key head.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlx_suite.modeling.fast_math import exp_below_zero, softcap
from mlx_suite.modeling.masks import RowMask

BLOCK = 128
"""Queries in a block. On the CPU, 256 take a fifth more time and up to twice the memory (measured)."""
HIDDEN = float(mx.finfo(mx.float32).min)
"""Score of a key that a query does not see."""


def attend_in_blocks(
    q: mx.array, k: mx.array, v: mx.array, scale: float, cap: float | None, mask: RowMask, size: int
) -> mx.array:
    """Attention of q (B, H, L, D) over k, v (B, K, L, D) of the same positions, `size` queries at a time."""
    attention = _Attention(scale=scale, cap=cap, mask=mask, size=size)
    function: Any = mx.custom_function(attention.forward)

    @function.vjp
    def _(primals: Any, cotangents: Any, outputs: Any) -> Any:
        (q, k, v), (d_out, *_), (out, sums) = primals, cotangents, outputs
        return attention.backward(q, k, v, d_out, out, sums)

    out: mx.array = function(q, k, v)[0]
    return out


@dataclass(frozen=True, kw_only=True)
class _Block:
    """Queries, and the keys that one of them may see: their own positions and some before."""

    queries: slice
    keys: slice
    groups: int
    """Query heads that share a key head, G: their queries are rows of the same matrices."""

    def rows(self, x: mx.array) -> mx.array:
        """The block's part of x (B, H, L, D), as (B, K, R, D)."""
        B, H, L, D = x.shape
        part = x.reshape(B, H // self.groups, self.groups, L, D)[:, :, :, self.queries]
        return part.reshape(B, H // self.groups, -1, D)

    def visible(self, first: mx.array) -> mx.array:
        """(B or 1, 1, R, S) which keys each row sees; `first` (B or 1, L) as in RowMask."""
        query = mx.tile(mx.arange(self.queries.start, self.queries.stop), self.groups)[:, None]
        first = mx.tile(first[:, self.queries], (1, self.groups))[:, None, :, None]
        key = mx.arange(self.keys.start, self.keys.stop)
        return (first <= key) & (key <= query)


@dataclass(frozen=True, kw_only=True)
class _Attention:
    """Forward and backward pass of one call."""

    scale: float
    cap: float | None
    mask: RowMask
    size: int

    def forward(self, q: mx.array, k: mx.array, v: mx.array) -> tuple[mx.array, list[mx.array]]:
        """The output (B, H, L, D), and lse (B, K, R, 1) of each block, in fp32."""
        first = self.mask.first
        outputs: list[mx.array] = []
        sums: list[mx.array] = []
        for block in self._blocks(q, k):
            # Blocks run in sequence: without the dependency, all could be in memory together.
            [q_rows] = mx.depends([block.rows(q)], outputs[-1:])
            scores = self._scores(q_rows, k[:, :, block.keys])
            scores = mx.where(block.visible(first), scores, HIDDEN)
            top = scores.max(axis=-1, keepdims=True)
            weights = exp_below_zero(scores - top)  # (B, K, R, S)
            total = weights.sum(axis=-1, keepdims=True)
            outputs.append((weights.astype(v.dtype) @ v[:, :, block.keys] / total).astype(q.dtype))
            sums.append(top + mx.log(total))
        return _joined(outputs, q), sums

    def backward(
        self, q: mx.array, k: mx.array, v: mx.array, d_out: mx.array, out: mx.array, sums: list[mx.array]
    ) -> tuple[mx.array, mx.array, mx.array]:
        """The gradients of q, k and v from that of the output."""
        inner = (d_out.astype(mx.float32) * out).sum(axis=-1, keepdims=True)  # Σ p dp, (B, H, L, 1)
        first = self.mask.first
        dk, dv = mx.zeros(k.shape), mx.zeros(v.shape)
        parts: list[mx.array] = []
        for block, lse in zip(self._blocks(q, k), sums, strict=True):
            q_rows, d_rows = mx.depends([block.rows(q), block.rows(d_out)], [dk, dv, *parts[-1:]])
            keys, values = k[:, :, block.keys], v[:, :, block.keys]
            scores = self._scores(q_rows, keys)
            weights = exp_below_zero(mx.where(block.visible(first), scores - lse, HIDDEN))
            d_scores = weights * ((d_rows @ values.swapaxes(-1, -2)).astype(mx.float32) - block.rows(inner))
            if self.cap is not None:
                d_scores = d_scores * (1.0 - (scores / self.cap).square())
            d_scores = (d_scores * self.scale).astype(q.dtype)  # (B, K, R, S)
            parts.append(d_scores @ keys)
            dk[:, :, block.keys] += d_scores.swapaxes(-1, -2) @ q_rows
            dv[:, :, block.keys] += weights.astype(v.dtype).swapaxes(-1, -2) @ d_rows
        return _joined(parts, q), dk.astype(k.dtype), dv.astype(v.dtype)

    def _blocks(self, q: mx.array, k: mx.array) -> Iterator[_Block]:
        length, groups = q.shape[2], q.shape[1] // k.shape[1]
        for start in range(0, length, self.size):
            stop = min(start + self.size, length)
            yield _Block(
                queries=slice(start, stop), keys=slice(max(0, start + 1 - self.mask.reach), stop), groups=groups
            )

    def _scores(self, q_rows: mx.array, keys: mx.array) -> mx.array:
        """Scaled and capped scores (B, K, R, S) in fp32."""
        scores = ((q_rows * self.scale) @ keys.swapaxes(-1, -2)).astype(mx.float32)
        return scores if self.cap is None else softcap(scores, self.cap)


def _joined(parts: list[mx.array], like: mx.array) -> mx.array:
    """Rows (B, K, R, D) of all blocks as an array (B, H, L, D), the shape of `like`."""
    B, H, _, D = like.shape
    return mx.concatenate([part.reshape(B, H, -1, D) for part in parts], axis=2)
