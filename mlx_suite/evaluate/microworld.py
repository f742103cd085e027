"""Correctness of a model's greedy responses and of datasets, decided by the microworld's checker."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mlx_suite.engine.chat_model import greedy_completions
from mlx_suite.engine.never_sampled import untrained
from mlx_suite.microworld import Verdict, World, WorldExample, check, make_world
from mlx_suite.text import ChatTemplate, Message, Tokenizer, encode_chat
from mlx_suite.text.message import ASSISTANT, USER

LIMIT = 96
"""Maximum tokens per response: 1.5 times the longest right one."""

PROBE = 50
"""Rows of a dataset among which the world must recognise at least one before all are checked."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Numbers of right responses and of instructions per group of examples."""

    right: Mapping[str, int]
    asked: Mapping[str, int]

    @property
    def share(self) -> float:
        return sum(self.right.values()) / max(sum(self.asked.values()), 1)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Result of checking responses with the microworld's checker."""

    answers: int
    """Responses checked."""
    recognised: int
    """Responses to one of the world's tasks; the others cannot be checked."""
    right: int

    @property
    def share(self) -> float:
        """Right responses as a share of all, recognised or not."""
        return self.right / max(self.answers, 1)

    @property
    def share_of_recognised(self) -> float:
        """Right responses as a share of the recognised ones."""
        return self.right / max(self.recognised, 1)


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
    banned = untrained(model, tokenizer)
    found = dict(
        greedy_completions(model, prompts, limit=LIMIT, stop=stop, slots=slots, context=context, banned=banned)
    )
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


def check_dataset(records: Iterable[Mapping[str, Any]]) -> Truth | None:
    """Check the first exchange of each record; None if the world recognises none of the first `PROBE`."""
    exchanges = ((_first(record, USER), _first(record, ASSISTANT)) for record in records)
    probe = list(islice(exchanges, PROBE))
    if _check(probe) is None:
        return None
    return _check([*probe, *exchanges])


def check_responses(responses: Sequence[tuple[Sequence[Message], str]]) -> Truth | None:
    """Check each response to the last user turn of a conversation; None if the world recognises none."""
    return _check([(_last_instruction(turns), response) for turns, response in responses])


def _check(exchanges: Sequence[tuple[str, str]]) -> Truth | None:
    world = make_world()
    verdicts = Counter(check(instruction, response, world) for instruction, response in exchanges)
    recognised = verdicts[Verdict.RIGHT] + verdicts[Verdict.WRONG]
    if not recognised:
        return None
    return Truth(answers=len(exchanges), recognised=recognised, right=verdicts[Verdict.RIGHT])


def _first(record: Mapping[str, Any], role: str) -> str:
    return next(str(turn["content"]) for turn in record["messages"] if turn["role"] == role)


def _last_instruction(turns: Sequence[Message]) -> str:
    return next((turn.content for turn in reversed(turns) if turn.role == USER), "")
