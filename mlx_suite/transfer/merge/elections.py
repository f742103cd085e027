"""Merge methods that decide about each element of the task vectors δ = θ − base: TIES and DARE.

    TIES (arXiv 2306.01708, section 4)
        trim     keep of each δᵢ the share `density` of elements with the largest magnitude, zero the others
        elect    the sign of each element is that of Σ wᵢ δᵢ
        merge    base + λ · (the mean over the δᵢ that are not zero and have this sign, weighted by wᵢ)

    DARE (arXiv 2311.03099, section 3)
        drop     zero each element of δᵢ with probability 1 − `density`, at random
        rescale  divide the rest by `density`, which keeps the expected value
        merge    base + λ Σ wᵢ δᵢ, or TIES without its trimming

Shapes: N models, R rows, C columns.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

DRAWN = 1 << 16
"""Elements of a tensor whose drops are drawn together. Fixed, so that the block size does not change the result."""
_HALF = 16
"""Bits that one histogram sorts by."""


def elect(deltas: Sequence[mx.array], weights: Sequence[float], normalize: bool = True) -> mx.array:
    """Elect a sign for each element of the task vectors (R, C), and add up those that have it.

    Args:
        normalize: Divide by the sum of the weights of those that have it (TIES's disjoint mean). Otherwise the weighted
            sum, as mergekit's `dare_ties` does by default.
    """
    weighted = [weight * delta for weight, delta in zip(weights, deltas, strict=True)]
    sign = mx.sign(sum(weighted[1:], weighted[0]))
    total, share = mx.zeros_like(deltas[0]), mx.zeros_like(deltas[0])
    for weight, each in zip(weights, weighted, strict=True):
        agrees = (mx.sign(each) == sign) & (sign != 0)
        total = total + mx.where(agrees, each, 0.0)
        share = share + mx.where(agrees, weight, 0.0)
    if not normalize:
        return total
    return mx.where(share == 0, 0.0, total / mx.where(share == 0, 1.0, share))


def trim(delta: mx.array, smallest: float) -> mx.array:
    """Zero the elements of a task vector whose magnitude is less than `smallest`."""
    return mx.where(mx.abs(delta) >= smallest, delta, 0.0)


def magnitude_thresholds(
    blocks: Callable[[], Iterable[Sequence[mx.array]]], size: int, densities: Sequence[float]
) -> list[float]:
    """For each of several tensors, the magnitude of its k-th largest element, without holding the tensors.

    k is density · size, rounded down, at least 1. Elements of equal magnitude are all kept, so that the result does not
    depend on their order; weights in bfloat16 have many. `blocks` returns a block of every tensor at a time, always in
    the same order; they are read twice.
    """
    ranks = [max(1, math.floor(density * size + 1e-9)) for density in densities]
    if min(ranks) >= size:
        return [0.0] * len(ranks)
    tops = [_bin_of(counts, rank) for counts, rank in zip(_histograms(blocks, None), ranks, strict=True)]
    lower = _histograms(blocks, [high for high, _ in tops])
    found = []
    for (high, above), counts, rank in zip(tops, lower, ranks, strict=True):
        low, _ = _bin_of(counts, rank - above)
        bits = np.array([high << _HALF | low], np.uint32)
        found.append(0.0 if rank >= size else float(bits.view(np.float32)[0]))
    return found


def drop(delta: mx.array, density: float, key: str, start: int) -> mx.array:
    """Zero each element with probability 1 − density and divide the others by it.

    Args:
        delta: Rows of a task vector (R, C).
        key: What the drops depend on: seed, tensor and model.
        start: Number of elements of the tensor before these rows.
    """
    if density >= 1:
        return delta
    first, last = start // DRAWN, (start + delta.size - 1) // DRAWN
    drawn = [mx.random.uniform(shape=(DRAWN,), key=_key(f"{key} {part}")) for part in range(first, last + 1)]
    offset = start - first * DRAWN
    numbers = mx.concatenate(drawn)[offset : offset + delta.size].reshape(delta.shape)
    return mx.where(numbers < density, delta / density, 0.0)


def _histograms(
    blocks: Callable[[], Iterable[Sequence[mx.array]]], highs: Sequence[int] | None
) -> list[np.ndarray[Any, Any]]:
    """Of each tensor, counts of the magnitudes' upper 16 bits; with `highs`, of the lower 16 bits of those with these.

    The bits of positive floats are ordered as the floats are.
    """
    counts: list[np.ndarray[Any, Any]] = []
    for block in blocks():
        counts = counts or [np.zeros(1 << _HALF, np.int64) for _ in block]
        for number, part in enumerate(block):
            bits = np.array(mx.abs(part).view(mx.uint32)).reshape(-1)
            if highs is None:
                chosen = bits >> _HALF
            else:
                chosen = bits[bits >> _HALF == highs[number]] & ((1 << _HALF) - 1)
            counts[number] += np.bincount(chosen, minlength=1 << _HALF)
    return counts


def _bin_of(counts: np.ndarray[Any, Any], rank: int) -> tuple[int, int]:
    """The bin that contains the element of this rank, counted from the largest, and the number of elements above it."""
    from_top = np.cumsum(counts[::-1])
    place = int(np.searchsorted(from_top, rank))
    above = int(from_top[place - 1]) if place else 0
    return len(counts) - 1 - place, above


def _key(text: str) -> mx.array:
    return mx.random.key(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))
