"""Pick a preference pair from several responses, or find the reason why a row gives none.

Magpie takes the best and the worst of five by a reward model, unconditionally (arXiv 2406.08464, appendix). Here

* incomplete responses are dropped, and identical ones count once;
* scores are compared at equal length (`fit_lengths`);
* best and worst must differ by a margin and by a fraction of the scores' standard deviation, and the raw scores must
  agree on the order;
* of the remaining pairs, those with the largest difference in length are dropped until chosen responses are no longer
  or shorter than chance explains. A scorer that only measures length is left with a single pair.

Judges and reward models favour long answers (Dubois et al., arXiv 2404.04475; Singhal et al., arXiv 2310.03716), and a
model trained on best against worst then learns length. So the scores of all responses to all instructions are fitted:

    score = effect of the instruction + f(log length) + residual

f is piecewise linear with knots at quantiles of the lengths. The first term drops out: scores and lengths are centred
per instruction.

Shapes: N responses in all, K linear pieces.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import numpy.typing as npt

from mlx_suite.magpie.judge import key_of
from mlx_suite.magpie.pairs.answers import Answer

Floats = npt.NDArray[np.float64]
Scores = Mapping[tuple[int, int], float | None]
"""Scores by row and number of the response; None for responses that could not be scored."""

MIN_SPREAD = 0.25
"""Fraction of the scores' standard deviation by which two responses must differ, whatever the margin. It catches what
is left of a score that mostly measures length."""
MAX_PIECES = 6
PER_PIECE = 12
"""Degrees of freedom needed per linear piece: with fewer the fit would absorb real differences."""
RIDGE = 1e-3
"""Ridge penalty of each slope relative to its data; it matters only where lengths do not vary."""

REFUSALS: Mapping[str, str] = {
    "template": "the model's chat template refuses the conversation",
    "incomplete": "fewer than two responses are complete",
    "unscored": "fewer than two responses could be scored",
    "identical": "all complete responses are the same",
    "tie": "no two responses differ by the margin",
    "length": "the responses differ in length more than in anything else",
}
"""Reasons why a row gives no pair, each with its explanation."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A response that may be chosen or rejected."""

    answer: Answer
    score: float
    adjusted: float
    """Score adjusted to the mean length of its instruction's responses."""

    @property
    def characters(self) -> int:
        return len(self.answer.text)


@dataclass(frozen=True, kw_only=True)
class PreferencePair:
    """The best and the worst response of a row."""

    row: int
    chosen: Candidate
    rejected: Candidate

    @property
    def margin(self) -> float:
        """Difference of the length-adjusted scores."""
        return self.chosen.adjusted - self.rejected.adjusted

    @property
    def log_length_ratio(self) -> float:
        """Log of the lengths' ratio, chosen to rejected: above 0 if the chosen one is longer."""
        return log(self.chosen.characters / self.rejected.characters)


@dataclass(frozen=True, kw_only=True)
class LengthFit:
    """Scores with the effect of length removed."""

    adjusted: tuple[tuple[float, ...], ...]
    """Scores adjusted to their instruction's mean length, by instruction and response."""
    explained: float | None
    """Share of the scores' variance within instructions that length explains; None without variance, or with too few
    responses to tell."""
    spread: float
    """Standard deviation of the raw scores within their instructions."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The pairs of all rows, and the rows without one."""

    pairs: tuple[PreferencePair, ...]
    refused: Mapping[int, str]
    """Rows without a pair, each with a reason of REFUSALS."""
    fit: LengthFit


def pair_answers(answers: Mapping[int, Sequence[Answer]], scores: Scores, margin: float) -> Paired:
    """Pair the responses of each row, given in the order of their numbers."""
    refused: dict[int, str] = {}
    usable: dict[int, list[Answer]] = {}
    for row, given in answers.items():
        found = _usable(given, scores)
        if isinstance(found, str):
            refused[row] = found
        else:
            usable[row] = found
    raw = [[_score(scores, answer) for answer in each] for each in usable.values()]
    fit = fit_lengths(raw, [[len(answer.text) for answer in each] for each in usable.values()])
    least = max(margin, MIN_SPREAD * fit.spread)
    pairs: list[PreferencePair] = []
    for (row, given), own, adjusted in zip(usable.items(), raw, fit.adjusted, strict=True):
        candidates = [Candidate(answer=a, score=s, adjusted=r) for a, s, r in zip(given, own, adjusted, strict=True)]
        best = max(candidates, key=lambda each: (each.adjusted, -each.answer.number))
        worst = min(candidates, key=lambda each: (each.adjusted, each.answer.number))
        pair = PreferencePair(row=row, chosen=best, rejected=worst)
        if pair.margin >= least and best.score > worst.score:
            pairs.append(pair)
        else:
            refused[row] = "length" if max(own) - min(own) >= least else "tie"
    kept = balanced(pairs)
    refused |= {pair.row: "length" for pair in pairs if pair.row not in {each.row for each in kept}}
    return Paired(pairs=kept, refused=refused, fit=fit)


def balanced(pairs: Collection[PreferencePair]) -> tuple[PreferencePair, ...]:
    """Drop the pairs with the largest length ratios until neither side is longer on average.

    The sum of the log ratios may be at most one standard deviation of what random signs would give.
    """
    left = sorted(pairs, key=lambda pair: (abs(pair.log_length_ratio), pair.row))
    total = sum(pair.log_length_ratio for pair in left)
    squares = sum(pair.log_length_ratio**2 for pair in left)
    while left and total * total > squares * (1 + 1e-9):
        at = max(place for place, pair in enumerate(left) if pair.log_length_ratio * total > 0)
        dropped = left.pop(at)
        total -= dropped.log_length_ratio
        squares -= dropped.log_length_ratio**2
    return tuple(sorted(left, key=lambda pair: pair.row))


def _usable(given: Sequence[Answer], scores: Scores) -> list[Answer] | str:
    """The distinct complete responses with a score, or the reason there are fewer than two."""
    complete = [answer for answer in given if answer.flaw is None]
    if len(complete) < 2:
        return "incomplete"
    distinct = list({key_of(answer.text): answer for answer in reversed(complete)}.values())
    if len(distinct) < 2:
        return "identical"
    scored = [answer for answer in distinct if scores.get((answer.row, answer.number)) is not None]
    return sorted(scored, key=lambda answer: answer.number) if len(scored) >= 2 else "unscored"


def _score(scores: Scores, answer: Answer) -> float:
    score = scores[answer.row, answer.number]
    assert score is not None
    return score


def fit_lengths(scores: Sequence[Sequence[float]], lengths: Sequence[Sequence[int]]) -> LengthFit:
    """Remove from each score the part explained by its response's length, both given by instruction and response.

    Scores stay unchanged if there are too few responses for one linear piece.
    """
    groups = np.repeat(np.arange(len(scores)), [len(each) for each in scores])  # (N,)
    y = np.array([score for each in scores for score in each], dtype=np.float64)
    t = np.log(np.array([max(length, 1) for each in lengths for length in each], dtype=np.float64))
    assert y.shape == t.shape == groups.shape, (y.shape, t.shape)
    freedom = len(y) - len(set(groups.tolist()))
    if not freedom:
        return LengthFit(adjusted=tuple(map(tuple, scores)), explained=None, spread=0.0)
    centred = _centred(y, groups)
    total = float(centred @ centred)
    spread = float(np.sqrt(total / freedom))
    pieces = min(MAX_PIECES, freedom // PER_PIECE)
    if not pieces or not total:
        return LengthFit(adjusted=tuple(map(tuple, scores)), explained=None, spread=spread)
    basis = _centred(_pieces(t, pieces), groups)  # (N, K)
    gram = basis.T @ basis
    slopes = np.linalg.solve(gram + RIDGE * np.diag(gram.diagonal() + 1e-9), basis.T @ centred)
    by_length = basis @ slopes
    residual = centred - by_length
    adjusted = y - by_length
    cuts = np.cumsum([len(each) for each in scores])[:-1]
    return LengthFit(
        adjusted=tuple(tuple(part.tolist()) for part in np.split(adjusted, cuts)),
        explained=1.0 - float(residual @ residual) / total,
        spread=spread,
    )


def _pieces(t: Floats, count: int) -> Floats:
    """(N,) → (N, K): a linear term, and a hinge at each knot."""
    knots = np.quantile(t, np.arange(1, count) / count)
    return np.stack([t, *(np.maximum(t - knot, 0.0) for knot in knots)], axis=1)


def _centred(values: Floats, groups: npt.NDArray[np.intp]) -> Floats:
    """Differences from the group means, (N, …)."""
    counts = np.bincount(groups)
    shape = (len(counts), *values.shape[1:])
    sums = np.zeros(shape)
    np.add.at(sums, groups, values)
    means = sums / np.maximum(counts, 1).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(values - means[groups])
