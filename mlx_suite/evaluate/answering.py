"""Generate a model's responses to a dataset into a file that can be resumed after a kill.

`answers.settings.json`, next to `answers.jsonl`, stores everything the responses depend on: weights, adapter, prompt
style and instructions. Resuming with other settings is refused.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlx_suite.adapters.lora import adapted_layers
from mlx_suite.checkpoints.digest import weights_digest
from mlx_suite.data.dataset import chosen_part, read_dataset
from mlx_suite.data.example import Example, content
from mlx_suite.data.read.records import Problem
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.evaluate.answered import question_of, reference_of
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.runtime.files import write_atomically
from mlx_suite.runtime.journal import Journal, read_journal
from mlx_suite.runtime.resume import change, differences, facts_text, refuse_other, stored_facts
from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT, SYSTEM

KIND = "mlx-suite answers"


@dataclass(frozen=True, kw_only=True)
class QuestionSet:
    """The conversations to respond to."""

    examples: tuple[Example, ...]
    part: str
    total: int = 0
    """Number of rows in the data, the problems included."""
    problems: tuple[Problem, ...] = ()
    """Rows that are left out, with the reason."""


@dataclass(frozen=True, kw_only=True)
class AnswerSettings:
    """Generation settings apart from the model."""

    max_tokens: int = 512
    """Maximum tokens per response; a longer one is truncated and marked `limit`."""
    system: str | None = None
    """System text for conversations without one."""
    model: str = ""
    """Model name, stored for error messages."""
    adapter: str | None = None
    """Adapter name, stored for error messages."""


def read_questions(
    source: str | Path, part: str | None = None, format: str | None = None, *, strict: bool = False, split: str = ""
) -> QuestionSet:
    """The conversations of a dataset's `part`: by default test, else valid, else train.

    Rows that cannot be read are left out, unless `strict`. Raises UserError for unreadable data, an empty part, or rows
    of plain text.
    """
    dataset = read_dataset(source, format=format, skip_bad=True, split=split)
    if strict and dataset.problems:
        raise UserError(
            f"{len(dataset.problems):,} problems with the data",
            where=str(source),
            fix="correct them, or omit --strict",
            details=shortened(dataset.problems),
        )
    chosen, examples = chosen_part(dataset, part, source)
    texts = [example.place for example in examples if not any(turn.role == ASSISTANT for turn in example.messages)]
    if texts:
        raise UserError(
            f"{len(texts):,} rows are plain text, not conversations",
            where=texts[0],
            fix="measure plain text with mlx-suite perplexity",
        )
    problems = (*dataset.problems, *dataset.left_out)
    total = sum(file.rows + file.bad + file.left_out for file in dataset.files)
    return QuestionSet(examples=examples, part=chosen, total=total, problems=problems)


def write_answers(
    chat: ChatModel,
    questions: QuestionSet,
    settings: AnswerSettings,
    out: Path,
    limit: int | None = None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write responses to the first `limit` conversations to `out`, resuming if it exists; returns their number.

    The last response of each conversation is generated; earlier turns are those of the data. The finished file is
    in the dataset's order and byte-identical however often the run was interrupted.

    Raises UserError if the file was written with another model, other settings or other data.
    """
    examples = questions.examples[:limit]
    asked = [_with_system(question_of(example), settings.system) for example in examples]
    facts = _facts(chat, questions, settings)
    with Journal(out) as journal:
        _check_facts(out, facts, fresh=journal.count == 0)
        known = {record["number"] for record in journal.records()}
        waiting = [number for number in range(len(examples)) if number not in known]
        done = len(examples) - len(waiting)
        tell(done, len(examples))
        prompts = (_prompt(chat, examples[number], settings) for number in waiting)
        for place, reply in chat.complete(prompts, settings.max_tokens):
            number = waiting[place]
            example = examples[number]
            journal.append(
                {
                    "number": number,
                    "place": example.place,
                    "messages": [{"role": turn.role, "content": turn.content} for turn in asked[number]],
                    "reference": reference_of(example),
                    "answer": reply.text,
                    "reason": reply.reason,
                }
            )
            done += 1
            tell(done, len(examples))
    _put_in_order(out)
    return len(examples)


def settings_file(out: Path) -> Path:
    """Path of the settings file, `answers.settings.json` for `answers.jsonl`."""
    return out.with_suffix(".settings.json")


def _prompt(chat: ChatModel, example: Example, settings: AnswerSettings) -> tuple[int, ...]:
    # Context is passed separately: the Alpaca style puts it under its own heading.
    turns = question_of(example, joined=False)
    tools = example.tool_turns
    if tools is not None:
        tools = tools.before(tools.responses[-1])
        if settings.system and not any(turn["role"] == SYSTEM for turn in tools.turns):
            system = {"role": SYSTEM, "content": settings.system}
            tools = replace(tools, turns=(system, *tools.turns), trained=(True, *tools.trained))
    return chat.styled_prompt(_with_system(turns, settings.system), example.context, tools)


def _with_system(turns: tuple[Message, ...], system: str | None) -> tuple[Message, ...]:
    if not system or any(turn.role == SYSTEM for turn in turns):
        return turns
    return (Message(SYSTEM, system), *turns)


def _facts(chat: ChatModel, questions: QuestionSet, settings: AnswerSettings) -> dict[str, Any]:
    """Everything the responses depend on. Their number is not included, so a file can be extended later."""
    digest = hashlib.sha256()
    for example in questions.examples:
        digest.update(f"{content(example)}\n".encode())
    scales = sorted({float(layer.scale) for layer in adapted_layers(chat.model).values()})
    return {
        "weights": weights_digest(chat.model),
        "adapter_scale": scales,
        "style": chat.style,
        "template": None if chat.template is None else _short_digest(chat.template.source),
        "stop_ids": sorted(chat.stop_ids),
        "max_tokens": settings.max_tokens,
        "system": settings.system,
        "part": questions.part,
        "questions": digest.hexdigest()[:12],
        "names": {"model": settings.model, "adapter": settings.adapter},
    }


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _check_facts(out: Path, facts: Mapping[str, Any], *, fresh: bool) -> None:
    """Store the settings of a new file; refuse to resume a file written with other settings."""
    path = settings_file(out)
    if fresh:
        write_atomically(path, facts_text(KIND, facts))
        return
    stored = stored_facts(path, KIND)
    changes = differences(stored, facts, ignored=["names", "weights"])
    if stored.get("weights") != facts["weights"]:
        was, now = (f"{_called(each.get('names') or {})} ({each.get('weights')})" for each in (stored, facts))
        changes.insert(0, change("weights", was, now))
    refuse_other(changes, out, what="file")


def _called(names: Mapping[str, Any]) -> str:
    model = str(names.get("model") or "a model")
    return f"{model} with {names['adapter']}" if names.get("adapter") else model


def _put_in_order(out: Path) -> None:
    """Sort the rows, which were written as they finished, by their number."""
    records: Sequence[Mapping[str, Any]] = list(read_journal(out))
    ordered = sorted(records, key=lambda record: record["number"])
    if ordered != records:
        write_atomically(out, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in ordered))
