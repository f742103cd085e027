"""Pairwise comparison of two models' responses by a judge, in both orders.

A response wins only if it is preferred in both positions (see `judging`). Otherwise the pair counts as a tie and is
reported as inconsistent.

The length-controlled win rate estimates the win rate at equal response lengths. Following AlpacaEval's length control
(Dubois et al., arXiv 2404.04475), a logistic regression of the verdicts

    log odds(A wins) = α + β · tanh(Δ / s),   Δ = characters of A − characters of B,   s² = mean of Δ²

is fitted, and the controlled win rate is its value at Δ = 0, σ(α). AlpacaEval divides by the standard deviation; s
maps equal lengths to 0. Its third term, instruction difficulty, needs verdicts on many models and is omitted. Weak
Gaussian priors on α and β keep β finite for a judge that decides by length alone. Swapping the sides turns a win rate w
into exactly 1 − w.
"""

import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.data.statistics import Interval, Numbers, bootstrap
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.evaluate.answered import Answered
from mlx_suite.evaluate.judging import FIRST, NEITHER, SECOND, BothOrders
from mlx_suite.evaluate.prompts import PAIR_LABELS, PAIR_PROMPT, JudgePrompt, conversation_text

MOST_TOKENS = 64
"""Maximum tokens of a judge's reply."""

PRIOR, SLOPE_PRIOR = 0.5, 0.02
"""Precisions of the priors on α and β: standard deviations of 1.4 and 7 log odds. The first shrinks ten wins of ten to
0.89 and hardly affects hundreds of pairs; the second lets length explain nearly everything if the data say so."""
STEPS = 50
"""Maximum Newton steps; a dozen usually suffice."""

_WORD = r"\[*(?P<word>[ab]|c|tie|equal|both|neither)\]*"
_ALONE = re.compile(rf"(?:(?:answer|assistant|response)\s+)?{_WORD}(?:\s+is\s+better)?\.?", re.IGNORECASE)
_LABELLED = re.compile(
    rf"(?:(?:the|my|final|better)\s+)*(?:verdict|answer|winner|choice|better)\s*(?:is\b|:)\s*(?:answer\s+)?{_WORD}\.?",
    re.IGNORECASE,
)
_BRACKETS = re.compile(r"\[\[(?P<word>[abc])\]\]", re.IGNORECASE)
_MARKUP = " \t*_`#\"'()"


@dataclass(frozen=True, kw_only=True)
class Matchup:
    """Two models' responses to one instruction."""

    a: Answered
    b: Answered

    @property
    def difference(self) -> int:
        """Characters in A's response minus characters in B's."""
        return len(self.a.answer) - len(self.b.answer)


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Rows of two files matched by instruction."""

    pairs: tuple[Matchup, ...]
    only_a: int
    """Rows of A without a match in B."""
    only_b: int
    """Rows of B without a match in A."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The judge's verdicts on one pair."""

    pair: Matchup
    forward: str | None
    """Verdict with A in first position; None if the reply could not be parsed."""
    backward: str | None
    """Verdict with B in first position; None if the reply could not be parsed."""
    probability: float | None = None
    """Label mode: probability that A is better, averaged over both orders."""
    replies: tuple[str, str] = ("", "")

    @property
    def outcome(self) -> str:
        """`A`, `B`, `tie`, `inconsistent` or `unread`."""
        return BothOrders(forward=self.forward, backward=self.backward).outcome

    def as_dict(self) -> dict[str, Any]:
        """The fields of a JSON line."""
        return {
            "place": self.pair.a.place,
            "instruction": self.pair.a.instruction,
            "a": self.pair.a.answer,
            "b": self.pair.b.answer,
            "outcome": self.outcome,
            "forward": self.forward,
            "backward": self.backward,
            "probability": self.probability,
            "replies": list(self.replies),
        }


@dataclass(frozen=True, kw_only=True)
class PairReport:
    """Results of A against B."""

    rows: tuple[Judged, ...]
    seed: int = 0
    """Seed of the bootstrap."""

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(row.outcome for row in self.rows)

    @cached_property
    def read(self) -> tuple[Judged, ...]:
        """Pairs with two parsed verdicts."""
        return tuple(row for row in self.rows if row.outcome != "unread")

    @property
    def wins(self) -> list[float]:
        """1 where A won, 0 where B won, ½ for ties and inconsistent verdicts."""
        return [{"A": 1.0, "B": 0.0}.get(row.outcome, 0.5) for row in self.read]

    @property
    def win_rate(self) -> float | None:
        """Win rate of A; ties count half."""
        return sum(self.wins) / len(self.wins) if self.wins else None

    @cached_property
    def interval(self) -> Interval | None:
        """95 % bootstrap interval over pairs."""
        wins = np.asarray(self.wins)
        return bootstrap(lambda rows: wins[rows].mean(axis=1), len(wins), self.seed)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Win rate over all pairs if A lost every unread pair, and if it won every one."""
        if not self.rows:
            return None
        total, unread = sum(self.wins), self.counts["unread"]
        return total / len(self.rows), (total + unread) / len(self.rows)

    @cached_property
    def controlled(self) -> float | None:
        """Length-controlled win rate, see `length_control`."""
        return controlled_win_rate(self.wins, self._differences) if self.wins else None

    @cached_property
    def controlled_interval(self) -> Interval | None:
        return controlled_interval(self.wins, self._differences, self.seed) if self.wins else None

    @property
    def first_place(self) -> float | None:
        """Share of verdicts for the first position: ½ for a judge without position bias."""
        verdicts = [v for row in self.rows for v in (row.forward, row.backward) if v in (FIRST, SECOND)]
        return verdicts.count(FIRST) / len(verdicts) if verdicts else None

    @property
    def letters(self) -> tuple[float, float]:
        """Mean characters of A's responses and of B's."""
        count = max(len(self.rows), 1)
        return (
            sum(len(row.pair.a.answer) for row in self.rows) / count,
            sum(len(row.pair.b.answer) for row in self.rows) / count,
        )

    @property
    def _differences(self) -> list[int]:
        return [row.pair.difference for row in self.read]


def match_answers(a: Sequence[Answered], b: Sequence[Answered]) -> Matched:
    """Pair responses to the same instruction, in A's order; repeated instructions are matched in order."""
    waiting: defaultdict[str, deque[Answered]] = defaultdict(deque)
    for row in b:
        waiting[row.key].append(row)
    pairs = tuple(Matchup(a=row, b=waiting[row.key].popleft()) for row in a if waiting[row.key])
    return Matched(pairs=pairs, only_a=len(a) - len(pairs), only_b=len(b) - len(pairs))


def judge_pairs(
    judge: ChatModel,
    pairs: Sequence[Matchup],
    *,
    mode: str = "label",
    prompt: JudgePrompt = PAIR_PROMPT,
    max_tokens: int = MOST_TOKENS,
    seed: int = 0,
    tell: Callable[[], None] = lambda: None,
) -> PairReport:
    """Have `judge` compare each pair in both orders. `tell` is called once per verdict, twice per pair."""
    assert mode in ("text", "label"), mode
    questions = (prompt.fill(_fields(pair, swapped=swapped)) for pair in pairs for swapped in (False, True))
    verdicts: dict[int, tuple[str | None, float | None, str]] = {}
    if mode == "label":
        for number, preference in judge.preferences(questions, PAIR_LABELS):
            verdicts[number] = (None, None, "") if preference is None else _by_label(preference)
            tell()
    else:
        for number, reply in judge.respond(questions, max_tokens):
            verdicts[number] = (parse_verdict(reply.text), None, reply.text)
            tell()
    rows = (_judged(pair, verdicts[2 * i], verdicts[2 * i + 1]) for i, pair in enumerate(pairs))
    return PairReport(rows=tuple(rows), seed=seed)


def parse_verdict(text: str) -> str | None:
    """Parse a judge's reply; None if it has no verdict or contradictory ones.

    Accepted are a letter alone on the first line (`A`, `Answer B`, `B is better`), a letter after `Verdict:`,
    `Answer:`, `Winner:` or `Better:` on any line, and `[[A]]` anywhere. `tie`, `equal` and `[[C]]` mean neither.
    """
    lines = [line.strip().strip(_MARKUP) for line in text.strip().splitlines()]
    matches: Iterable[re.Match[str] | None] = [
        *(_LABELLED.fullmatch(line) for line in lines),
        *_BRACKETS.finditer(text),
        *(_ALONE.fullmatch(line) for line in lines[:1]),
    ]
    found = {{"a": FIRST, "b": SECOND}.get(match["word"].lower(), NEITHER) for match in matches if match}
    return found.pop() if len(found) == 1 else None


def controlled_win_rate(wins: npt.ArrayLike, difference: npt.ArrayLike) -> float:
    """Length-controlled win rate of A, σ(α).

    Args:
        wins: (N,) 1 where A won, 0 where B did, ½ for a tie.
        difference: (N,) characters of A's response minus characters of B's.
    """
    y, x = _inputs(wins, difference)
    return float(_win_rates(y[None], x[None])[0])


def controlled_interval(wins: npt.ArrayLike, difference: npt.ArrayLike, seed: int) -> Interval | None:
    """95 % bootstrap interval of the length-controlled win rate over pairs."""
    y, x = _inputs(wins, difference)
    return bootstrap(lambda rows: _win_rates(y[rows], x[rows]), len(y), seed)


def _inputs(wins: npt.ArrayLike, difference: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    y, delta = np.asarray(wins, dtype=np.float64), np.asarray(difference, dtype=np.float64)
    # Scale around zero, not around the mean: equal lengths must stay at 0.
    spread = np.sqrt((delta * delta).mean()) if len(delta) else 0.0
    return y, np.tanh(delta / spread) if spread > 0 else delta


def _win_rates(y: Numbers, x: Numbers) -> Numbers:
    """(R resamples, N pairs) twice → (R,): Newton's method on the penalised log-likelihood, which is concave."""
    alpha, beta = np.zeros(len(y)), np.zeros(len(y))
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-(alpha[:, None] + beta[:, None] * x)))
        weight = p * (1.0 - p)
        gradient_a = (y - p).sum(axis=1) - PRIOR * alpha
        gradient_b = ((y - p) * x).sum(axis=1) - SLOPE_PRIOR * beta
        aa = weight.sum(axis=1) + PRIOR
        ab = (weight * x).sum(axis=1)
        bb = (weight * x * x).sum(axis=1) + SLOPE_PRIOR
        determinant = aa * bb - ab * ab
        step_a = (bb * gradient_a - ab * gradient_b) / determinant
        step_b = (aa * gradient_b - ab * gradient_a) / determinant
        # A full step can overshoot where the data are separable.
        scale = np.minimum(1.0, 4.0 / np.maximum(np.hypot(step_a, step_b), 1e-12))
        alpha, beta = alpha + scale * step_a, beta + scale * step_b
        if max(np.abs(step_a).max(), np.abs(step_b).max()) < 1e-9:
            break
    rates: Numbers = 1.0 / (1.0 + np.exp(-alpha))
    return rates


def _fields(pair: Matchup, *, swapped: bool) -> dict[str, str | None]:
    first, second = (pair.b, pair.a) if swapped else (pair.a, pair.b)
    reference = pair.a.reference if pair.a.reference is not None else pair.b.reference
    return {
        "instruction": conversation_text(pair.a.question),
        "reference": reference,
        "first": first.answer,
        "second": second.answer,
    }


def _by_label(log_probs: Sequence[float]) -> tuple[str, float, str]:
    """The verdict and the probability of the first position, normalised over both labels."""
    first, second = log_probs
    probability = 1.0 / (1.0 + exp(min(second - first, 700.0)))
    return FIRST if first >= second else SECOND, probability, ""


def _judged(
    pair: Matchup, forward: tuple[str | None, float | None, str], backward: tuple[str | None, float | None, str]
) -> Judged:
    probability = None
    if forward[1] is not None and backward[1] is not None:
        probability = (forward[1] + 1.0 - backward[1]) / 2
    return Judged(
        pair=pair,
        forward=forward[0],
        backward=backward[0],
        probability=probability,
        replies=(forward[2], backward[2]),
    )
