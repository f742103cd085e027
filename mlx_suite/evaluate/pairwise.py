"""Which of two answers a judge prefers, asked in both orders.

Judges favour a place (MT-Bench, arXiv 2306.05685, section 3.3), so a win counts only if it is the same answer that
wins from either place; else the pair is a tie, and counted as inconsistent.
"""

import re
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp
from typing import Any

import numpy as np

from mlx_suite.data.statistics import Interval, bootstrap
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.evaluate.answered import Answered
from mlx_suite.evaluate.length_control import controlled_interval, controlled_win_rate
from mlx_suite.evaluate.prompts import PAIR_LABELS, PAIR_PROMPT, JudgePrompt, conversation_text

FIRST, SECOND, NEITHER = "first", "second", "neither"
"""A verdict on what stood in the first and in the second place."""
MOST_TOKENS = 64

_WORD = r"\[*(?P<word>[ab]|c|tie|equal|both|neither)\]*"
_ALONE = re.compile(rf"(?:(?:answer|assistant|response)\s+)?{_WORD}(?:\s+is\s+better)?\.?", re.IGNORECASE)
_LABELLED = re.compile(
    rf"(?:(?:the|my|final|better)\s+)*(?:verdict|answer|winner|choice|better)\s*(?:is\b|:)\s*(?:answer\s+)?{_WORD}\.?",
    re.IGNORECASE,
)
_BRACKETS = re.compile(r"\[\[(?P<word>[abc])\]\]", re.IGNORECASE)
_MARKUP = " \t*_`#\"'()"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two answers to one question."""

    a: Answered
    b: Answered

    @property
    def difference(self) -> int:
        """Letters that A's answer has more than B's."""
        return len(self.a.answer) - len(self.b.answer)


@dataclass(frozen=True, kw_only=True)
class Matched:
    """What two files have in common."""

    pairs: tuple[Pair, ...]
    only_a: int
    """Rows of A whose question B lacks."""
    only_b: int


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The verdicts on one pair."""

    pair: Pair
    forward: str | None
    """With A in the first place; None where it could not be read."""
    backward: str | None
    """With B in the first place."""
    probability: float | None = None
    """By label: how probable A was as the better one, the mean of both orders."""
    replies: tuple[str, str] = ("", "")

    @property
    def outcome(self) -> str:
        """`A`, `B`, `tie`, `inconsistent` or `unread`."""
        if self.forward is None or self.backward is None:
            return "unread"
        verdicts = (self.forward, self.backward)
        if verdicts == (NEITHER, NEITHER):
            return "tie"
        return {(FIRST, SECOND): "A", (SECOND, FIRST): "B"}.get(verdicts, "inconsistent")

    def as_dict(self) -> dict[str, Any]:
        """For a line of JSON."""
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
    """How A did against B."""

    rows: tuple[Judged, ...]
    seed: int = 0
    """Of the resampling behind the intervals."""

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(row.outcome for row in self.rows)

    @cached_property
    def read(self) -> tuple[Judged, ...]:
        """Those with two verdicts."""
        return tuple(row for row in self.rows if row.outcome != "unread")

    @property
    def wins(self) -> list[float]:
        """1 where A won, 0 where B did, ½ for ties and inconsistent verdicts."""
        return [{"A": 1.0, "B": 0.0}.get(row.outcome, 0.5) for row in self.read]

    @property
    def win_rate(self) -> float | None:
        """Of A, ties counting half."""
        return sum(self.wins) / len(self.wins) if self.wins else None

    @cached_property
    def interval(self) -> Interval | None:
        """95 %, by resampling pairs."""
        wins = np.asarray(self.wins)
        return bootstrap(lambda rows: wins[rows].mean(axis=1), len(wins), self.seed)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The win rate over all pairs if A lost every unread one, and if it won them."""
        if not self.rows:
            return None
        total, unread = sum(self.wins), self.counts["unread"]
        return total / len(self.rows), (total + unread) / len(self.rows)

    @cached_property
    def controlled(self) -> float | None:
        """The win rate at equal length, see `length_control`."""
        return controlled_win_rate(self.wins, self._differences) if self.wins else None

    @cached_property
    def controlled_interval(self) -> Interval | None:
        return controlled_interval(self.wins, self._differences, self.seed) if self.wins else None

    @property
    def first_place(self) -> float | None:
        """Share of verdicts for whatever stood first: ½ for a judge to whom places mean nothing."""
        verdicts = [v for row in self.rows for v in (row.forward, row.backward) if v in (FIRST, SECOND)]
        return verdicts.count(FIRST) / len(verdicts) if verdicts else None

    @property
    def letters(self) -> tuple[float, float]:
        """Mean length of A's answers and of B's."""
        count = max(len(self.rows), 1)
        return (
            sum(len(row.pair.a.answer) for row in self.rows) / count,
            sum(len(row.pair.b.answer) for row in self.rows) / count,
        )

    @property
    def _differences(self) -> list[int]:
        return [row.pair.difference for row in self.read]


def match_answers(a: Sequence[Answered], b: Sequence[Answered]) -> Matched:
    """Pairs of answers to the same question, in A's order; a question asked twice is matched in order."""
    waiting: defaultdict[str, deque[Answered]] = defaultdict(deque)
    for row in b:
        waiting[row.key].append(row)
    pairs = tuple(Pair(a=row, b=waiting[row.key].popleft()) for row in a if waiting[row.key])
    return Matched(pairs=pairs, only_a=len(a) - len(pairs), only_b=len(b) - len(pairs))


def judge_pairs(
    judge: ChatModel,
    pairs: Sequence[Pair],
    *,
    mode: str = "label",
    prompt: JudgePrompt = PAIR_PROMPT,
    max_tokens: int = MOST_TOKENS,
    seed: int = 0,
    tell: Callable[[], None] = lambda: None,
) -> PairReport:
    """Ask `judge` about each pair in both orders. `tell` is called once per verdict, twice per pair."""
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
    """The verdict of a reply, or None where it has none or contradicts itself.

    It counts as a letter that stands alone on the first line (`A`, `Answer B`, `B is better`), behind `Verdict:`,
    `Answer:`, `Winner:` or `Better:` on any line, or as `[[A]]` anywhere. `tie`, `equal` and `[[C]]` mean neither.
    """
    lines = [line.strip().strip(_MARKUP) for line in text.strip().splitlines()]
    matches: Iterable[re.Match[str] | None] = [
        *(_LABELLED.fullmatch(line) for line in lines),
        *_BRACKETS.finditer(text),
        *(_ALONE.fullmatch(line) for line in lines[:1]),
    ]
    found = {{"a": FIRST, "b": SECOND}.get(match["word"].lower(), NEITHER) for match in matches if match}
    return found.pop() if len(found) == 1 else None


def _fields(pair: Pair, *, swapped: bool) -> dict[str, str | None]:
    first, second = (pair.b, pair.a) if swapped else (pair.a, pair.b)
    reference = pair.a.reference if pair.a.reference is not None else pair.b.reference
    return {
        "instruction": conversation_text(pair.a.question),
        "reference": reference,
        "first": first.answer,
        "second": second.answer,
    }


def _by_label(log_probs: Sequence[float]) -> tuple[str, float, str]:
    """The verdict, and how probable the first place was beside the second."""
    first, second = log_probs
    probability = 1.0 / (1.0 + exp(min(second - first, 700.0)))
    return FIRST if first >= second else SECOND, probability, ""


def _judged(
    pair: Pair, forward: tuple[str | None, float | None, str], backward: tuple[str | None, float | None, str]
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
