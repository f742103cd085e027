"""Scores from 0 to 100 that a judge gives responses (Raschka, Build a Large Language Model, chapter 7).

In text mode the judge writes a number, which is parsed strictly: failures are counted and reported, never taken for 0.
In label mode nothing is parsed: the score is the expectation Σ p(s)·s over the labels 0, 10, … 100 under the judge's
probabilities (as in G-Eval, arXiv 2303.16634, section 2).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

from mlx_suite.data.statistics import Mean, mean_of
from mlx_suite.engine.chat_model import TOO_LONG, ChatModel
from mlx_suite.evaluate.answered import Answered
from mlx_suite.evaluate.prompts import SCORE_LABELS, SCORE_PROMPT, JudgePrompt, conversation_text

MODES = ("text", "label")
MOST_TOKENS = 64
"""Maximum tokens of a judge's reply: a number and some slack."""

_LABEL = r"(?:the |my |final |overall )*(?:score|grade|rating)(?:\s+is)?\s*[:=]?\s*"
_NUMBER = r"(?P<number>[+-]?[0-9]+(?:\.[0-9]+)?)(?:\s*(?:/|out of)\s*100)?(?:\s*(?:%|points?))?\.?"
_ALONE = re.compile(_NUMBER, re.IGNORECASE)
_LABELLED = re.compile(_LABEL + _NUMBER, re.IGNORECASE)
_MARKUP = str.maketrans("", "", "*_`#\"'[]()")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A response and its score."""

    row: Answered
    score: float | None
    """Score from 0 to 100; None if the judge's reply could not be parsed."""
    problem: str = ""
    """Why there is no score."""
    reply: str = ""
    """The judge's reply; empty in label mode."""
    mass: float | None = None
    """Label mode: total probability of the labels. Near 0 the judge would have written something else."""

    def as_dict(self) -> dict[str, Any]:
        """The fields of a JSON line."""
        return {
            "place": self.row.place,
            "instruction": self.row.instruction,
            "reference": self.row.reference,
            "answer": self.row.answer,
            "score": self.score,
            "problem": self.problem,
            "reply": self.reply,
        }


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """The scores of one file."""

    rows: tuple[Scored, ...]

    @property
    def scores(self) -> list[float]:
        """The parsed scores."""
        return [row.score for row in self.rows if row.score is not None]

    @property
    def failures(self) -> tuple[Scored, ...]:
        return tuple(row for row in self.rows if row.score is None)

    @property
    def mean(self) -> Mean | None:
        """Mean of the parsed scores."""
        return mean_of(self.scores)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Mean over all rows with every failure taken as 0, and as 100."""
        if not self.rows:
            return None
        total, count = sum(self.scores), len(self.rows)
        return total / count, (total + 100.0 * len(self.failures)) / count

    @property
    def mass(self) -> float | None:
        """Label mode: mean total probability of the labels."""
        found = mean_of([row.mass for row in self.rows if row.mass is not None])
        return None if found is None else found.mean

    def lowest(self, count: int) -> list[Scored]:
        """The `count` rows with the lowest scores; ties stay in file order."""
        read = [row for row in self.rows if row.score is not None]
        return sorted(read, key=lambda row: row.score if row.score is not None else 0.0)[:count]


def score_answers(
    judge: ChatModel,
    rows: Sequence[Answered],
    *,
    mode: str = "text",
    prompt: JudgePrompt = SCORE_PROMPT,
    max_tokens: int = MOST_TOKENS,
    tell: Callable[[], None] = lambda: None,
) -> ScoreReport:
    """Have `judge` score each response. `tell` is called once per score."""
    assert mode in MODES, mode
    questions = [prompt.fill(_fields(row)) for row in rows]
    scored: dict[int, Scored] = {}
    if mode == "label":
        for number, preference in judge.preferences(questions, SCORE_LABELS):
            scored[number] = _by_label(rows[number], preference)
            tell()
    else:
        for number, reply in judge.respond(questions, max_tokens):
            score, problem = parse_score(reply.text)
            if score is None and reply.reason == TOO_LONG and not reply.text:
                problem = "too long for the judge's context"
            scored[number] = Scored(row=rows[number], score=score, problem=problem, reply=reply.text)
            tell()
    return ScoreReport(rows=tuple(scored[number] for number in range(len(rows))))


def parse_score(text: str) -> tuple[float | None, str]:
    """Parse a judge's reply: (score, "") or (None, reason).

    A score is a whole number from 0 to 100, optionally followed by `/100`, `out of 100`, `%` or `points`. It must
    be alone on the first line, or follow `Score:`, `Grade:` or `Rating:` on any line. All scores found must agree.
    """
    lines = [line.translate(_MARKUP).strip() for line in text.strip().splitlines()]
    found = [match["number"] for line in lines if (match := _LABELLED.fullmatch(line))]
    if lines and (match := _ALONE.fullmatch(lines[0])):
        found.insert(0, match["number"])
    if not found:
        return None, "no score" if text.strip() else "an empty reply"
    bad = [number for number in found if not re.fullmatch(r"100|[1-9]?[0-9]", number)]
    if bad:
        return None, f"{bad[0]} is not a whole number from 0 to 100"
    if len(set(found)) > 1:
        return None, f"several scores: {', '.join(dict.fromkeys(found))}"
    return float(found[0]), ""


def expected_score(log_probs: Sequence[float]) -> tuple[float, float]:
    """Σ p(s)·s over the labels with p normalised, and the total probability before normalisation."""
    top = max(log_probs)
    weights = [exp(each - top) for each in log_probs]
    mean = sum(w * float(s) for w, s in zip(weights, SCORE_LABELS, strict=True)) / sum(weights)
    return mean, sum(exp(each) for each in log_probs)


def _fields(row: Answered) -> dict[str, str | None]:
    return {"instruction": conversation_text(row.question), "reference": row.reference, "answer": row.answer}


def _by_label(row: Answered, log_probs: Sequence[float] | None) -> Scored:
    if log_probs is None:
        return Scored(row=row, score=None, problem="too long for the judge's context")
    score, mass = expected_score(log_probs)
    return Scored(row=row, score=score, mass=mass)
