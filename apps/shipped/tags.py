"""Agreement of a checkpoint's tags with the microworld's truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from mlx_suite.data.questions import Question, Questions
from mlx_suite.data.statistics import cohen_kappa
from mlx_suite.engine.chat_model import label_log_probs
from mlx_suite.microworld import Verdict, check, identify, make_world
from mlx_suite.microworld.tagging import ANSWER_QUALITY, Tagged, sample_tagged
from mlx_suite.text import ChatTemplate, Message, Tokenizer, encode_chat
from mlx_suite.text.message import ASSISTANT, USER

from .drawing import DrawnRow


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement of tags with the true labels."""

    count: int
    share: float
    kappa: float
    """Cohen's kappa (1960): agreement beyond chance; 1 is perfect, 0 is chance."""


@dataclass(frozen=True, kw_only=True)
class AnswerTags:
    """Ratings of the model's own responses, compared with the microworld's checker."""

    right: int
    right_called_excellent: int
    wrong: int
    wrong_called_excellent: int


def agreement(found: Sequence[str], true: Sequence[str]) -> Agreement:
    """Compute the share of equal labels, and Cohen's kappa."""
    assert true and len(found) == len(true)
    labels = sorted({*found, *true})
    number = {label: place for place, label in enumerate(labels)}
    matrix = np.zeros((len(labels), len(labels)), np.int64)
    for one, other in zip(found, true, strict=True):
        matrix[number[one], number[other]] += 1
    kappa = cohen_kappa(matrix, 1.0 - np.eye(len(labels)))
    share = float(matrix.trace()) / len(true)
    return Agreement(count=len(true), share=share, kappa=1.0 if kappa is None else kappa)


def choose_labels(
    model: Any,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    questions: Questions,
    question: Question,
    examples: Sequence[tuple[str, str | None]],
) -> list[str]:
    """Choose the most probable label for each instruction or exchange, asking only `question`."""

    def chat(instruction: str, answer: str | None, label: str | None) -> list[Message]:
        reply = questions.listening if answer is None else answer
        asked = [Message(USER, instruction), Message(ASSISTANT, reply), Message(USER, question.text)]
        return asked if label is None else [*asked, Message(ASSISTANT, label)]

    def label_ids(label: str) -> tuple[int, ...]:
        encoded = encode_chat(tokenizer, template, chat("Hi", None, label))
        return tuple(id for id, owner in zip(encoded.ids, encoded.owner, strict=True) if owner == 3)

    labels = tuple(map(label_ids, question.labels))
    prompts = (encode_chat(tokenizer, template, chat(*each, None), add_generation_prompt=True).ids for each in examples)
    found = dict(label_log_probs(model, prompts, labels, slots=8, context=512))
    chosen = []
    for number in range(len(examples)):
        log_probs = found[number]
        assert log_probs is not None, "the microworld's rows are short"
        chosen.append(question.labels[max(range(len(labels)), key=log_probs.__getitem__)])
    return chosen


def heldout_tagged(name: str, count: int) -> list[Tagged]:
    """Sample held-out examples for a question."""
    rng, world = Random(f"held-out tags {name}"), make_world()
    return [sample_tagged(rng, world, name, heldout=True) for _ in range(count)]


def measure_tags(
    model: Any, tokenizer: Tokenizer, template: ChatTemplate, questions: Questions, count: int
) -> dict[str, Agreement]:
    """Measure agreement on `count` held-out examples for each question."""
    measured = {}
    for question in questions.questions:
        examples = heldout_tagged(question.name, count)
        pairs = [(each.instruction, each.answer) for each in examples]
        found = choose_labels(model, tokenizer, template, questions, question, pairs)
        measured[question.name] = agreement(found, [each.labels[question.name] for each in examples])
    return measured


def measure_own_tags(
    model: Any, tokenizer: Tokenizer, template: ChatTemplate, questions: Questions, rows: Sequence[DrawnRow]
) -> tuple[Mapping[str, Agreement], AnswerTags]:
    """Measure agreement on the model's own rows whose instruction the microworld recognises."""
    known = [(row, found[0]) for row in rows if (found := identify(row.instruction))]
    instructions: list[tuple[str, str | None]] = [(row.instruction, None) for row, _ in known]
    truths = {
        "category": [task.category for _, task in known],
        "difficulty": [task.difficulty for _, task in known],
    }
    agreements = {
        name: agreement(choose_labels(model, tokenizer, template, questions, questions.named(name), instructions), true)
        for name, true in truths.items()
    }
    question, world = questions.named(ANSWER_QUALITY), make_world()
    answered: list[tuple[str, str | None]] = [(row.instruction, row.answer) for row, _ in known]
    best = [
        label == question.labels[-1]
        for label in choose_labels(model, tokenizer, template, questions, question, answered)
    ]
    right = [check(row.instruction, row.answer, world) is Verdict.RIGHT for row, _ in known]
    return agreements, AnswerTags(
        right=sum(right),
        right_called_excellent=sum(one and other for one, other in zip(right, best, strict=True)),
        wrong=len(right) - sum(right),
        wrong_called_excellent=sum(one and not other for one, other in zip(best, right, strict=True)),
    )
