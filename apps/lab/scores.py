"""Scores of a model: the share of questions that it answers right, by group, and what guessing would reach."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.engine.chat_model import greedy_completions
from mlx_suite.engine.engine import context_length
from mlx_suite.engine.never_sampled import untrained
from mlx_suite.text import Tokenizer

from .people import LabQuestion

ANSWER_TOKENS = 16
"""Most tokens of an answer that is read."""
SLOTS = 32


@dataclass(frozen=True, kw_only=True)
class Score:
    """Answers of one group."""

    right: int
    first_right: int
    """Answers whose first word is right: recall often begins there."""
    asked: int

    @property
    def share(self) -> float:
        return self.right / self.asked if self.asked else 0.0

    def as_dict(self) -> dict[str, int]:
        return dict(self.__dict__)


def prompt_of(question: LabQuestion) -> str:
    """The prompt of a question, with its text if it has one; of a completion, the text alone."""
    if not question.question:
        return question.text
    before = f"{question.text}\n\n" if question.text else ""
    return f"{before}Question: {question.question}\nAnswer:"


def score(model: Any, tokenizer: Tokenizer, questions: Sequence[LabQuestion]) -> dict[str, Score]:
    """Greedy answers to all questions, by group. An answer ends at a line end or at EOS."""
    prompts = [tokenizer.encode_prompt(prompt_of(each)) for each in questions]
    answers: dict[int, str] = {}
    for number, written in greedy_completions(
        model,
        prompts,
        limit=ANSWER_TOKENS,
        stop=tokenizer.stop_ids,
        slots=SLOTS,
        context=context_length(model),
        banned=untrained(model, tokenizer),
    ):
        answers[number] = tokenizer.decode(written.tokens)
    found: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for number, question in enumerate(questions):
        found[question.group].append(judge(question.answer, answers[number], continues=not question.question))
    return {
        group: Score(
            right=sum(right for right, _ in each), first_right=sum(first for _, first in each), asked=len(each)
        )
        for group, each in found.items()
    }


def judge(truth: str, answer: str, *, continues: bool = False) -> tuple[bool, bool]:
    """Whether an answer is right, and whether its first word is; articles, case and a full stop do not matter.

    With `continues`, the answer may go on after the truth.
    """
    wanted, given = _words(truth), _words(answer.strip().split("\n")[0])
    if continues:
        given = [word.strip(".,") for word in given[: len(wanted)]]
    return given == wanted, given[:1] == wanted[:1]


def majority_baseline(questions: Sequence[LabQuestion]) -> dict[str, float]:
    """Share of right answers in each group if every question had the most frequent answer of its relation."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions:
        counts[question.relation][question.answer] += 1
    best = {relation: answers.most_common(1)[0][0] for relation, answers in counts.items()}
    groups: dict[str, list[bool]] = defaultdict(list)
    for question in questions:
        groups[question.group].append(best[question.relation] == question.answer)
    return {group: sum(hits) / len(hits) for group, hits in groups.items()}


def _words(text: str) -> list[str]:
    words = text.lower().strip(" .").split()
    return words[1:] if words[:1] in (["a"], ["an"], ["the"]) else words
