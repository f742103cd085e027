"""Sparse records of a distribution: an unbiased sample of it, or its most probable tokens.

Random-sampling distillation (arXiv 2503.16870): N draws from a proposal, each with the weight p / (N · proposal), have
p as their mean, and so give the gradient of the full distribution in expectation. The most probable tokens do not: what
lies outside them is lost, or, with a bucket for the rest, its shape is.

The draws are systematic: one uniform number u per position, and the points (u + i) / N of the cumulative distribution.
Each point alone is a fair draw, so the mean is unbiased as for independent draws; but a token of probability p is drawn
⌊Np⌋ or ⌈Np⌉ times, never less or more, so the sample is closer to p.

Shapes: T positions, V vocabulary, N draws.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class SparseRecord:
    """What is kept of T distributions."""

    ids: Ids
    """(T, N) token ids."""
    values: Floats
    """(T, N) weights of draws, or probabilities of the most probable tokens."""
    entropy: Floats
    """(T,) of the full distribution, in nats."""


def systematic_draws(probs: Floats, count: int, uniforms: npt.NDArray[np.float64], temperature: float) -> SparseRecord:
    """`count` weighted draws per row of `probs` (T, V), with one uniform number in [0, 1) per row.

    Draws come from the distribution at `temperature`; above 1, rare tokens are drawn more often, with smaller weights.
    """
    p = probs.astype(np.float64)
    proposal = p if temperature == 1.0 else p ** (1.0 / temperature)
    # In double precision: in single precision a vocabulary of 128k would lose its rare tokens in the running sum.
    cumulated = np.cumsum(proposal, axis=1)
    totals = cumulated[:, -1:]
    points = (uniforms[:, None] + np.arange(count)) / count * totals
    # The last token with any probability: rounding must not lead past it.
    last = p.shape[1] - 1 - np.argmax(proposal[:, ::-1] > 0, axis=1)
    ids = np.stack([np.searchsorted(row, at, side="right") for row, at in zip(cumulated, points, strict=True)])
    ids = np.minimum(ids, last[:, None])
    drawn = np.take_along_axis(proposal, ids, axis=1) / totals
    weights = np.take_along_axis(p, ids, axis=1) / p.sum(axis=1, keepdims=True) / drawn / count
    return SparseRecord(ids=ids.astype(np.uint32), values=weights.astype(np.float32), entropy=_entropy(p))


def most_probable(probs: Floats, count: int) -> SparseRecord:
    """The `count` most probable tokens of each row of `probs` (T, V) and their probabilities."""
    count = min(count, probs.shape[1])
    ids = np.argpartition(probs, -count, axis=1)[:, -count:]
    values = np.take_along_axis(probs, ids, axis=1)
    return SparseRecord(
        ids=ids.astype(np.uint32), values=values.astype(np.float32), entropy=_entropy(probs.astype(np.float64))
    )


def _entropy(p: npt.NDArray[np.float64]) -> Floats:
    found: Floats = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1).astype(np.float32)
    return found
