"""Agreement of a judge's scores and verdicts with the microworld's checker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from mlx_suite.data.statistics import Interval, auc, auc_interval, share_interval
from mlx_suite.evaluate.answered import Answered
from mlx_suite.evaluate.pairwise import Judged, Matchup
from mlx_suite.evaluate.scoring import Scored
from mlx_suite.microworld import Verdict, World, WorldExample, check, heldout_examples, identify, make_world
from mlx_suite.text import Message
from mlx_suite.text.message import USER

PASS = 50.0
"""Lowest score that counts as a verdict of right."""
RELIABLE = 0.8
"""AUC below which a judge is called weak: it ranks more than one pair in five in the wrong order."""


@dataclass(frozen=True, kw_only=True)
class ScoreAgreement:
    """Agreement of a judge's scores with the microworld's checker."""

    rows: int
    """Scored rows with a known truth."""
    right: int
    """Right responses among the scored rows."""
    auc: float | None
    """Probability that a right response scores above a wrong one; 0.5 is chance. None if all are right or all wrong."""
    interval: Interval | None
    accuracy: float
    """Share of rows where score ≥ 50 agrees with the checker."""

    @property
    def majority(self) -> float:
        """Accuracy of the majority class, the baseline."""
        return max(self.right, self.rows - self.right) / max(self.rows, 1)

    @property
    def verdict(self) -> str:
        """Interpretation of the AUC for users."""
        if self.auc is None or self.interval is None:
            return "undefined: the responses with a known truth are all right or all wrong"
        if self.interval[0] <= 0.5:
            return "no better than chance: do not rely on its scores"
        if self.auc < RELIABLE:
            return "weak: its scores separate right from wrong only on average"
        return "separates right from wrong"


@dataclass(frozen=True, kw_only=True)
class PairAgreement:
    """Agreement of a judge's verdicts on pairs of one right and one wrong response."""

    pairs: int
    agreed: int
    """Pairs in which the right response won in both positions."""
    inconsistent: int
    """Ties and inconsistent verdicts among the pairs."""

    @property
    def share(self) -> float:
        return self.agreed / max(self.pairs, 1)

    @property
    def interval(self) -> Interval | None:
        return share_interval(self.agreed, self.pairs)


def score_agreement(rows: Sequence[Scored], seed: int = 0) -> ScoreAgreement | None:
    """Compare scores with the checker; None if the microworld recognises no scored row."""
    world = make_world()
    scores, right = [], []
    for row in rows:
        truth = check(row.row.instruction, row.row.answer, world)
        if row.score is not None and truth is not Verdict.UNKNOWN:
            scores.append(row.score)
            right.append(truth is Verdict.RIGHT)
    if not scores:
        return None
    agreed = sum((score >= PASS) == is_right for score, is_right in zip(scores, right, strict=True))
    return ScoreAgreement(
        rows=len(scores),
        right=sum(right),
        auc=auc(scores, right),
        interval=auc_interval(scores, right, seed),
        accuracy=agreed / len(scores),
    )


def pair_agreement(rows: Sequence[Judged]) -> PairAgreement | None:
    """Compare verdicts with the checker; None if no pair has exactly one right response."""
    world = make_world()
    winner_of: Mapping[tuple[Verdict, Verdict], str] = {
        (Verdict.RIGHT, Verdict.WRONG): "A",
        (Verdict.WRONG, Verdict.RIGHT): "B",
    }
    outcomes = []
    for row in rows:
        truth = tuple(check(side.instruction, side.answer, world) for side in (row.pair.a, row.pair.b))
        if truth in winner_of and row.outcome != "unread":
            outcomes.append((row.outcome, winner_of[truth[0], truth[1]]))
    if not outcomes:
        return None
    return PairAgreement(
        pairs=len(outcomes),
        agreed=sum(outcome == winner for outcome, winner in outcomes),
        inconsistent=sum(outcome in ("inconsistent", "tie") for outcome, _ in outcomes),
    )


def known_pairs(count: int, seed: int = 0) -> tuple[Matchup, ...]:
    """Microworld instructions with a right and a wrong response; the right one alternates between A and B.

    The wrong response is right for another instruction of the same task, so it differs in content and not in style.
    The reference is right too, often worded differently, so a judge that has never seen the microworld can compare.
    """
    world, rng = make_world(), Random(f"known pairs {seed}")
    pool = heldout_examples(seed, 4 * count, world)
    pairs: list[Matchup] = []
    for example in pool:
        wrong = _wrong_answer(example, pool, rng, world)
        if wrong is None or len(pairs) == count:
            continue
        question, reference = (Message(USER, example.instruction),), _another_answer(example, rng, world)
        sides = [Answered(question=question, answer=answer, reference=reference) for answer in (example.answer, wrong)]
        if len(pairs) % 2:
            sides.reverse()
        pairs.append(Matchup(a=sides[0], b=sides[1]))
    return tuple(pairs)


def _wrong_answer(example: WorldExample, pool: Sequence[WorldExample], rng: Random, world: World) -> str | None:
    others = [other.answer for other in pool if other.task == example.task]
    rng.shuffle(others)
    wrong = (answer for answer in others if check(example.instruction, answer, world) is Verdict.WRONG)
    return next(wrong, None)


def _another_answer(example: WorldExample, rng: Random, world: World) -> str:
    """A right response, worded differently where the task allows it."""
    found = identify(example.instruction)
    assert found is not None, example.instruction
    task, slots = found
    return task.answer(slots, rng, world)
