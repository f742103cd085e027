"""Memory, time and difference of attention in blocks compared with attention over all pairs, in training.

Both sides run `attend` of one layer on a packed row, with the gradients of queries, keys and values, compiled.

Shapes: B batch, H query heads, K key/value heads, L positions, D head dimension.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_suite.modeling.attention import attend
from mlx_suite.training.documents import DocumentMask, longest_document

HEADS, KEY_HEADS, HEAD_DIM = 2, 1, 64


@dataclass(frozen=True, kw_only=True)
class RowShape:
    """A packed row, and the attention of a layer."""

    positions: int
    documents: int
    """Documents in the row: the first takes half of it, each other half of what is left, the last all of it."""
    cap: float | None = None
    window: int | None = None

    @property
    def lengths(self) -> list[int]:
        """Length of each document."""
        lengths: list[int] = []
        for _ in range(self.documents - 1):
            lengths.append(max(1, (self.positions - sum(lengths)) // 2))
        return [*lengths, self.positions - sum(lengths)]


@dataclass(frozen=True, kw_only=True)
class AttentionCost:
    """Cost of a forward and backward pass."""

    peak_bytes: int
    """Peak memory beyond queries, keys and values; their gradients are included."""
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class AttentionMemory:
    """Both sides on the same arrays."""

    shape: RowShape
    blocks: AttentionCost
    pairs: AttentionCost
    """Attention over all pairs of positions, masked."""
    loss_difference: float
    """Relative difference of a loss, a weighted sum of all outputs."""
    gradient_difference: float
    """Largest difference of an element of a gradient, relative to the gradient's largest element."""

    @property
    def memory_ratio(self) -> float:
        """Peak in blocks over the peak with all pairs."""
        return self.blocks.peak_bytes / self.pairs.peak_bytes

    @property
    def time_ratio(self) -> float:
        """Time in blocks over the time with all pairs."""
        return self.blocks.milliseconds / self.pairs.milliseconds


def measure_attention(shape: RowShape, rounds: int = 3) -> AttentionMemory:
    """Run both sides on random arrays in turn; times are the best of `rounds`, after one that compiles."""
    L = shape.positions
    keys = mx.random.split(mx.random.key(0), 4)
    forms = [(1, heads, L, HEAD_DIM) for heads in (HEADS, KEY_HEADS, KEY_HEADS, HEADS)]
    q, k, v, weights = (mx.random.normal(form, key=key) for form, key in zip(forms, keys, strict=True))
    numbers = np.repeat(np.arange(1, shape.documents + 1), shape.lengths)[None].astype(np.uint16)  # (B, L)
    cache = DocumentMask(mx.array(numbers), longest_document(numbers))

    def side(in_blocks: bool) -> Callable[..., Any]:
        def loss(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
            rows = cache.row_mask(shape.window)
            out = attend(q, k, v, HEAD_DIM**-0.5, shape.cap, rows if in_blocks else rows.array)
            return (out * weights).sum()

        compiled: Callable[..., Any] = mx.compile(mx.value_and_grad(loss, (0, 1, 2)))
        return compiled

    sides, costs = (side(True), side(False)), []
    for _ in range(1 + rounds):
        costs.append([_cost(function, q, k, v) for function in sides])
    blocks, pairs = (_best(each) for each in zip(*costs[1:], strict=True))
    (loss, gradients), (expected, expected_gradients) = (function(q, k, v) for function in sides)
    differences = [
        float(np.abs(np.array(one) - np.array(other)).max() / np.abs(np.array(other)).max())
        for one, other in zip([loss, *gradients], [expected, *expected_gradients], strict=True)
    ]
    return AttentionMemory(
        shape=shape,
        blocks=blocks,
        pairs=pairs,
        loss_difference=differences[0],
        gradient_difference=max(differences[1:]),
    )


def _cost(function: Callable[..., Any], *arrays: mx.array) -> AttentionCost:
    mx.eval(*arrays)
    mx.clear_cache()
    mx.reset_peak_memory()
    before, started = mx.get_active_memory(), time.perf_counter()
    mx.eval(function(*arrays))
    taken = time.perf_counter() - started
    return AttentionCost(peak_bytes=mx.get_peak_memory() - before, milliseconds=1e3 * taken)


def _best(costs: tuple[AttentionCost, ...]) -> AttentionCost:
    return AttentionCost(
        peak_bytes=max(each.peak_bytes for each in costs), milliseconds=min(each.milliseconds for each in costs)
    )
