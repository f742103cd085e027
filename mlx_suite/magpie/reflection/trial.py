"""Whether a model can judge at all: texts whose order of merit nobody doubts.

A judge that knows nothing prefers a new text from both places once in four times, and whatever it prefers would come
in. So it is first shown answers beside the answers to other questions, and instructions beside their own words in
disorder. No labels are needed, and a judge that cannot see these is not asked for finer differences.
"""

from collections.abc import Iterable, Sequence
from random import Random

from mlx_suite.magpie.drift import words_of
from mlx_suite.magpie.reflection.judging import Contest, Verdict

MOST = 50
"""Contests of a trial: the share is known to about six points."""
PASSED = 0.75
"""Share of the contests that the better text must win from both places. A judge that knows nothing wins a quarter."""
_FEWEST_WORDS = 4


def answer_trial(rows: Sequence[tuple[str, str]]) -> list[Contest]:
    """Contests between the answers to questions and those to others, from (question, answer) of each row."""
    found = []
    for number, (question, answer) in enumerate(rows):
        other = rows[(number + 1) % len(rows)][1]
        if words_of(other) != words_of(answer):
            found.append(Contest(row=number, old=answer, new=other, question=question))
    return found[:MOST]


def instruction_trial(instructions: Sequence[str]) -> list[Contest]:
    """Contests between instructions and their words in disorder."""
    found = []
    for number, text in enumerate(instructions):
        words = text.split()
        mixed = Random(number).sample(words, len(words))
        if len(words) >= _FEWEST_WORDS and mixed != words:
            found.append(Contest(row=number, old=text, new=" ".join(mixed)))
    return found[:MOST]


def passed_share(verdicts: Iterable[Verdict]) -> float | None:
    """Share of the contests that the better text has won from both places; None where none was asked."""
    outcomes = [verdict.outcome for verdict in verdicts if verdict.outcome != "unasked"]
    return outcomes.count("old") / len(outcomes) if outcomes else None
