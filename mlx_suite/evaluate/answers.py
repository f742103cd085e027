"""Accuracy of greedy responses, decided by the microworld's checker."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.engine.chat_model import greedy_completions
from mlx_suite.microworld import Verdict, World, WorldExample, check
from mlx_suite.text import ChatTemplate, Message, Tokenizer, encode_chat
from mlx_suite.text.message import USER

LIMIT = 96
"""Maximum tokens per response: 1.5 times the longest right one."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Right responses and instructions per group of examples."""

    right: Mapping[str, int]
    asked: Mapping[str, int]

    @property
    def share(self) -> float:
        return sum(self.right.values()) / max(sum(self.asked.values()), 1)


def answer_all(
    model: Any,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    instructions: Iterable[str],
    *,
    slots: int = 16,
    context: int = 512,
) -> list[str]:
    """Greedy response to each instruction, in order, truncated at `LIMIT` tokens."""
    prompts = (
        encode_chat(tokenizer, template, [Message(USER, text)], add_generation_prompt=True).ids for text in instructions
    )
    stop = tokenizer.stop_ids
    found = dict(greedy_completions(model, prompts, limit=LIMIT, stop=stop, slots=slots, context=context))
    return [tokenizer.decode(found[number].tokens) for number in range(len(found))]


def measure_accuracy(
    model: Any,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    examples: Sequence[WorldExample],
    world: World,
) -> tuple[Accuracy, Accuracy]:
    """Accuracy of greedy responses to `examples`, by category and by task."""
    answers = answer_all(model, tokenizer, template, [e.instruction for e in examples])
    groups: list[tuple[Counter[str], Counter[str]]] = [(Counter(), Counter()) for _ in range(2)]
    for example, answer in zip(examples, answers, strict=True):
        right = check(example.instruction, answer, world) is Verdict.RIGHT
        for (rights, asked), key in zip(groups, (example.category, example.task), strict=True):
            asked[key] += 1
            rights[key] += right
    by_category, by_task = (Accuracy(right=rights, asked=asked) for rights, asked in groups)
    return by_category, by_task
