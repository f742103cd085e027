"""Which two of several answers become a pair to learn a preference from, and why others do not.

Magpie takes the best and the worst of five by a reward model, whatever they are (arXiv 2406.08464, appendix). Here

* answers that are not whole are left out, and equal ones count once;
* the scores are compared at equal length (`length_fit`);
* best and worst must differ by a margin and by a part of the scores' own spread, and the score itself must agree;
* of the pairs that are left, those go whose lengths differ most, until the chosen answers are no longer, or shorter,
  than chance would have it. A scorer that goes by length alone is left with a single pair.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import log

from mlx_suite.magpie.pairs.answers import Answer
from mlx_suite.magpie.pairs.length_fit import LengthFit, fit_lengths
from mlx_suite.magpie.screen import key_of

LEAST_SPREAD = 0.25
"""Part of the scores' standard deviation by which two answers must differ, whatever the margin: what is left of a
score that goes by length is small beside the score."""

REFUSALS: Mapping[str, str] = {
    "template": "the model's chat template refuses the conversation",
    "incomplete": "fewer than two answers are whole",
    "unscored": "fewer than two answers could be scored",
    "identical": "all whole answers are the same",
    "tie": "no two answers differ by the margin",
    "length": "the answers differ by their length more than by anything else",
}
"""Every reason why a row gives no pair, and what it says."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An answer that may be chosen or rejected."""

    answer: Answer
    score: float
    rest: float
    """The score without what its length explains."""

    @property
    def letters(self) -> int:
        return len(self.answer.text)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The best and the worst answer of a row."""

    row: int
    chosen: Candidate
    rejected: Candidate

    @property
    def margin(self) -> float:
        """By how much the chosen one is better, at equal length."""
        return self.chosen.rest - self.rejected.rest

    @property
    def longer(self) -> float:
        """Log of the chosen answer's length in lengths of the rejected one: above 0 where it is longer."""
        return log(self.chosen.letters / self.rejected.letters)


@dataclass(frozen=True, kw_only=True)
class Paired:
    """What has become of the rows."""

    pairs: tuple[Pair, ...]
    refused: Mapping[int, str]
    """Rows without a pair, each with a reason of REFUSALS."""
    fit: LengthFit


def pair_answers(
    answers: Mapping[int, Sequence[Answer]], scores: Mapping[tuple[int, int], float | None], margin: float
) -> Paired:
    """Pair the answers of each row.

    Args:
        answers: By row, in the order of their numbers.
        scores: By row and number of the answer.
    """
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
    least = max(margin, LEAST_SPREAD * fit.spread)
    pairs: list[Pair] = []
    for (row, given), own, rests in zip(usable.items(), raw, fit.rests, strict=True):
        candidates = [Candidate(answer=a, score=s, rest=r) for a, s, r in zip(given, own, rests, strict=True)]
        best = max(candidates, key=lambda each: (each.rest, -each.answer.number))
        worst = min(candidates, key=lambda each: (each.rest, each.answer.number))
        pair = Pair(row=row, chosen=best, rejected=worst)
        if pair.margin >= least and best.score > worst.score:
            pairs.append(pair)
        else:
            refused[row] = "length" if max(own) - min(own) >= least else "tie"
    kept = balanced(pairs)
    refused |= {pair.row: "length" for pair in pairs if pair.row not in {each.row for each in kept}}
    return Paired(pairs=kept, refused=refused, fit=fit)


def balanced(pairs: Collection[Pair]) -> tuple[Pair, ...]:
    """Without the pairs whose lengths differ most, so that neither side is longer on the average.

    The differences must not add up to more than one standard deviation of what they would with their signs by chance.
    """
    left = sorted(pairs, key=lambda pair: (abs(pair.longer), pair.row))
    total = sum(pair.longer for pair in left)
    squares = sum(pair.longer**2 for pair in left)
    while left and total * total > squares * (1 + 1e-9):
        at = max(place for place, pair in enumerate(left) if pair.longer * total > 0)
        gone = left.pop(at)
        total -= gone.longer
        squares -= gone.longer**2
    return tuple(sorted(left, key=lambda pair: pair.row))


def _usable(given: Sequence[Answer], scores: Mapping[tuple[int, int], float | None]) -> list[Answer] | str:
    """The different whole answers that have a score, or why there are not two."""
    whole = [answer for answer in given if answer.flaw is None]
    if len(whole) < 2:
        return "incomplete"
    different = list({key_of(answer.text): answer for answer in reversed(whole)}.values())
    if len(different) < 2:
        return "identical"
    scored = [answer for answer in different if scores.get((answer.row, answer.number)) is not None]
    return sorted(scored, key=lambda answer: answer.number) if len(scored) >= 2 else "unscored"


def _score(scores: Mapping[tuple[int, int], float | None], answer: Answer) -> float:
    score = scores[answer.row, answer.number]
    assert score is not None
    return score
