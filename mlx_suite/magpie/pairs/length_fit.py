"""Scores of answers without what their lengths explain.

Judges and reward models like long answers (Dubois et al., arXiv 2404.04475, and Singhal et al., arXiv 2310.03716), and
a model that is trained on best against worst then learns to be long. So the scores of all answers to all questions
are fitted together:

    score = what the question makes of it + f(log of the length) + the rest

f is straight between knots at quantiles of the lengths, so that it can follow any taste. The first term drops out:
scores and lengths count as their distances from the mean of their question. What is compared is the rest.

Shapes: R questions, N answers in all, K straight pieces.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

MOST_PIECES = 6
PER_PIECE = 12
"""Answers beyond the first of each question that each straight piece needs: with fewer the fit would take real
differences for those of length."""
RIDGE = 1e-3
"""Weight of a prior around 0 for each slope, as a share of the data's: it decides only where lengths do not vary."""


@dataclass(frozen=True, kw_only=True)
class LengthFit:
    """What is left of the scores."""

    rests: tuple[tuple[float, ...], ...]
    """By question and answer: the score as it would be at its question's mean length."""
    explained: float | None
    """Share of the scores' variance within questions that lengths explain; None where there is none to explain, or too
    few answers to tell."""
    spread: float
    """Standard deviation of the scores within their questions, before anything was taken away."""


def fit_lengths(scores: Sequence[Sequence[float]], lengths: Sequence[Sequence[int]]) -> LengthFit:
    """Take from each score what its answer's length explains.

    With too few answers for a single straight piece the scores stay as they are.
    """
    groups = np.repeat(np.arange(len(scores)), [len(each) for each in scores])  # (N,)
    y = np.array([score for each in scores for score in each], dtype=np.float64)
    t = np.log(np.array([max(length, 1) for each in lengths for length in each], dtype=np.float64))
    assert y.shape == t.shape == groups.shape, (y.shape, t.shape)
    freedom = len(y) - len(set(groups.tolist()))
    if not freedom:
        return LengthFit(rests=tuple(map(tuple, scores)), explained=None, spread=0.0)
    apart = _from_mean(y, groups)
    total = float(apart @ apart)
    spread = float(np.sqrt(total / freedom))
    pieces = min(MOST_PIECES, freedom // PER_PIECE)
    if not pieces or not total:
        return LengthFit(rests=tuple(map(tuple, scores)), explained=None, spread=spread)
    basis = _from_mean(_pieces(t, pieces), groups)  # (N, K)
    gram = basis.T @ basis
    slopes = np.linalg.solve(gram + RIDGE * np.diag(gram.diagonal() + 1e-9), basis.T @ apart)
    by_length = basis @ slopes
    rest = apart - by_length
    adjusted = y - by_length
    cuts = np.cumsum([len(each) for each in scores])[:-1]
    return LengthFit(
        rests=tuple(tuple(part.tolist()) for part in np.split(adjusted, cuts)),
        explained=1.0 - float(rest @ rest) / total,
        spread=spread,
    )


def _pieces(t: Numbers, count: int) -> Numbers:
    """(N,) → (N, K): a straight line, and one more that begins at each knot."""
    knots = np.quantile(t, np.arange(1, count) / count)
    return np.stack([t, *(np.maximum(t - knot, 0.0) for knot in knots)], axis=1)


def _from_mean(values: Numbers, groups: npt.NDArray[np.intp]) -> Numbers:
    """Distances from the mean of the own group, (N, …)."""
    counts = np.bincount(groups)
    shape = (len(counts), *values.shape[1:])
    sums = np.zeros(shape)
    np.add.at(sums, groups, values)
    means = sums / np.maximum(counts, 1).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(values - means[groups])
