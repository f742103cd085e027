"""Dataset formats: OpenAI messages, ShareGPT, Alpaca, prompt and completion, plain text.

    messages     {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
    sharegpt     {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}
    alpaca       {"instruction": "…", "input": "…", "output": "…"}
    completion   {"prompt": "…", "completion": "…"}
    text         {"text": "…"}

Rows of Anthropic, Gemini and LLaMA-Factory are read as `messages`, `sharegpt` and `alpaca`: see `dialects`.

A format reads a row as an `Example`, or reports everything that is wrong with it. Empty optional texts (a system
prompt, Alpaca's input) count as missing. Other keys are not read; `unread_keys` names them.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlx_suite.data.example import Example, with_context, without_context
from mlx_suite.data.read.conversation import (
    EMPTY,
    OPENAI_ROLES,
    SHAREGPT_ROLES,
    TOOL,
    Spelling,
    read_tools,
    read_turns,
    unread_turn_keys,
)
from mlx_suite.data.read.dialects import definitions, earlier_turns, in_openai_form
from mlx_suite.data.read.records import (
    Faults,
    Problem,
    Record,
    instruction_text,
    optional_text,
    required_text,
    response_text,
)
from mlx_suite.data.read.tool_turns import tool_turns
from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER

Fields = Mapping[str, Any]

SYSTEMS = ("system", "system_prompt")
QUESTIONS = ("prompt", "question", "query", "input")
ANSWERS = ("completion", "response", "answer", "output")
CONTEXTS = ("input", "context")
OUTPUTS = ("output", "response")
CONVERSATIONS = ("conversations", "conversation")
TOOLS = ("tools", "functions")
UNDESIRED = ("label", "kto_tag")
"""Keys that are false for an undesired response: TRL's and LLaMA-Factory's names for KTO's data."""


PREFERENCE = (
    "these are preference rows (chosen, rejected), and finetuning learns one response to a prompt; "
    "--column completion=chosen trains on the chosen ones"
)


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of rows."""

    name: str
    shape: str
    """A sample row, for error messages."""
    fits: Callable[[Fields], bool]
    """Whether a row has the keys; `read` checks their values."""
    read: Callable[[Fields, Faults], Example]
    """Read a row that fits as an example, which is valid only if no fault was appended."""
    keys: tuple[tuple[str, ...], ...]
    """Groups of synonymous keys whose texts become messages, besides the system prompt and the tools."""
    conversation: tuple[str, ...] = ()
    """Synonymous keys that hold a list of turns."""


def renamed(record: Record | Problem, columns: Mapping[str, str]) -> Record | Problem:
    """The record with columns under the names that formats know; `columns` maps a known name to the file's."""
    if not columns or isinstance(record, Problem) or isinstance(record.value, str):
        return record
    missing = [name for name in columns.values() if name not in record.value]
    if missing:
        return Problem(record.place, f"no column {', '.join(missing)}; found {_keys(record.value)}")
    taken = {known: record.value[name] for known, name in columns.items()}
    rest = {name: value for name, value in record.value.items() if name not in columns.values()}
    return Record(record.place, rest | taken)


def read_example(record: Record, format: Format) -> Example | tuple[Problem, ...]:
    """Read a record as an example, or as everything that is wrong with it."""
    fields = fields_of(record)
    if not format.fits(fields):
        if _is_preference(fields):
            return (Problem(record.place, PREFERENCE),)
        actual = "plain text" if isinstance(record.value, str) else _keys(fields)
        return (Problem(record.place, f"expected {format.name}, {format.shape}; found {actual}"),)
    undesired = next((key for key in UNDESIRED if format.name != "text" and _is_false(fields.get(key))), None)
    if undesired:
        what = f'"{undesired}" is false: an undesired response (KTO), which is not trained'
        return (Problem(record.place, what, by_design=True),)
    faults: Faults = []
    example = format.read(fields, faults)
    if faults:
        return tuple(Problem(record.place, fault) for fault in faults)
    return replace(example, place=record.place)


def read_keys(fields: Fields, format: Format) -> set[str]:
    """The keys of a row whose texts become messages: the first one with a value in each group of synonyms."""
    groups = (*format.keys, SYSTEMS, TOOLS)
    return {key for names in groups for key in [next((n for n in names if fields.get(n) is not None), "")]}


MAGPIE_KEYS = frozenset(
    "id index seed raw_instruction removed steer sampling instruction_reason instruction_stop instruction_tokens "
    "answer_reason answer_stop answer_tokens tags confidence nearest scores duplicate_of model fingerprint".split()
)
"""Keys of a row of `mlx-suite magpie` that say how it was made (`magpie.records`)."""


def unread_keys(record: Record, format: Format, example: Example) -> set[str]:
    """The keys of a row and of its turns that have a value and were not read.

    A key that only repeats a text of the example is read, and the keys of a Magpie row that say how it was made hold no
    content.
    """
    fields = fields_of(record)
    known = read_keys(fields, format) | {key for key in UNDESIRED if isinstance(fields.get(key), bool)}
    if {"fingerprint", "seed", "index"} <= set(fields):
        known |= MAGPIE_KEYS
    texts = {example.context, *(message.content for message in example.messages)}
    unread = {
        key
        for key, value in fields.items()
        if key not in known and value not in EMPTY and not (isinstance(value, str) and value in texts)
    }
    conversation = _first(fields, format.conversation)
    return unread | unread_turn_keys(fields[conversation]) if conversation else unread


def detect(records: Iterable[Record | Problem]) -> Format | None:
    """Detect the format that most rows have; None if no row has the keys of any format.

    A row counts for the first of FORMATS that it fits: a dataset with both messages and their prompt has messages.
    """
    counts: Counter[str] = Counter()
    for record in records:
        if isinstance(record, Record):
            fields = fields_of(record)
            fitting = next((name for name, format in FORMATS.items() if format.fits(fields)), None)
            if fitting:
                counts[fitting] += 1
    best = max(FORMATS, key=lambda name: counts[name])
    return FORMATS[best] if counts[best] else None


def unknown_format(records: Iterable[Record | Problem]) -> str:
    """Error message for a file in which no row has the keys of any format."""
    first = next((record for record in records if isinstance(record, Record)), None)
    actual = "no rows" if first is None else _keys(fields_of(first))
    if first is not None and _is_preference(fields_of(first)):
        return PREFERENCE
    shapes = "; ".join(f"{format.name} {format.shape}" for format in FORMATS.values())
    return f"no known format: found {actual}; expected one of {shapes}"


def column_hint(records: Iterable[Record | Problem]) -> str:
    """How to name the columns of a file in which no row has the keys of any format; empty if they are unclear."""
    first = next((record for record in records if isinstance(record, Record)), None)
    names = [] if first is None else list(fields_of(first))
    by_known = {
        known: next((name for name in names if name.strip().casefold() == known), None)
        for known in (*QUESTIONS, "instruction", *ANSWERS)
    }
    question = next((known for known in ("instruction", *QUESTIONS) if by_known[known]), None)
    answer = next((known for known in ANSWERS if by_known[known]), None)
    if question is None or answer is None or question == answer:
        return ""
    answer_name = "output" if question == "instruction" and answer in OUTPUTS else answer
    return f"; use --column {question}={by_known[question]} --column {answer_name}={by_known[answer]}"


def fold_tools(messages: Sequence[Message]) -> list[Message]:
    """Convert tool turns to user turns marked `[tool]`, for chat templates without a tool role.

    A tool result and the user turns next to it become one turn, so that user and assistant still alternate.
    """
    folded: list[Message] = []
    after_tool = False
    for message in messages:
        is_tool = message.role == TOOL
        if is_tool:
            message = Message(USER, f"[tool] {message.content}", message.trained)
        if folded and folded[-1].role == message.role == USER and (is_tool or after_tool):
            before = folded.pop()
            content = f"{before.content}\n\n{message.content}"
            message = Message(USER, content, before.trained and message.trained)
        folded.append(message)
        after_tool = is_tool
    return folded


def fields_of(record: Record) -> Fields:
    """Fields of a record, in OpenAI's form; a file of plain text is a row with the key `text`."""
    return {"text": record.value} if isinstance(record.value, str) else in_openai_form(record.value)


def _is_preference(fields: Fields) -> bool:
    return _has(fields, ("chosen",), ("rejected",))


def _keys(fields: Fields) -> str:
    names = [json.dumps(name, ensure_ascii=False) for name, value in fields.items() if value is not None]
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return f"the keys {shown}" if names else "no keys"


def _first(fields: Fields, names: Sequence[str]) -> str | None:
    """The first of these keys with a value; else the first that is present with null."""
    filled = next((name for name in names if fields.get(name) is not None), None)
    return filled or next((name for name in names if name in fields), None)


def _system(fields: Fields, faults: Faults) -> tuple[Message, ...]:
    name = _first(fields, SYSTEMS)
    text = optional_text(fields.get(name), f'"{name}"', faults) if name else ""
    return (Message(SYSTEM, text),) if text else ()


def _has_conversation(fields: Fields, names: Sequence[str]) -> bool:
    # In tables, a conversation is JSON in a cell.
    return any(isinstance(fields.get(name), list | str) for name in names)


def _read_messages(fields: Fields, faults: Faults) -> Example:
    """A row with `input`, with which its first instruction ends, is one of Alpaca's that `magpie filter` wrote."""
    example = _conversation(fields, "messages", Spelling(roles=OPENAI_ROLES), faults)
    messages = list(example.messages)
    first = next((place for place, message in enumerate(messages) if message.role == USER), None)
    bare = None if first is None else without_context(messages[first].content, fields.get("input"))
    if first is None or bare is None:
        return example
    messages[first] = replace(messages[first], content=bare)
    return replace(example, messages=tuple(messages), context=fields["input"])


def _read_sharegpt(fields: Fields, faults: Faults) -> Example:
    name = _first(fields, CONVERSATIONS) or CONVERSATIONS[0]
    spelling = Spelling(
        role_keys=("from", "role"), text_keys=("value", "content"), roles=SHAREGPT_ROLES, alternating=True
    )
    return _conversation(fields, name, spelling, faults)


def _conversation(fields: Fields, name: str, spelling: Spelling, faults: Faults) -> Example:
    system = _system(fields, faults)
    tools = _tools(fields)
    messages = read_turns(fields[name], f'"{name}"', spelling, faults)
    if messages and messages[0].role == SYSTEM and system:
        if system[0].content not in messages[0].content:
            faults.append('two different system prompts, in "system" and in the first turn; expected one')
        system = ()
    messages = (*system, *messages)
    if tools:
        messages = read_tools(messages, tools, faults)
    if faults:
        return Example(messages=messages)
    with_tools = tool_turns(fields[name], spelling, definitions(tools), system[0].content if system else "")
    return Example(messages=messages, tool_turns=with_tools)


def _tools(fields: Fields) -> Any:
    """The tool definitions; those of OpenAI's older key `functions` are wrapped as the newer one has them."""
    return fields["tools"] if fields.get("tools") is not None else definitions(fields.get("functions"))


def _is_false(value: Any) -> bool:
    return value is False or (isinstance(value, str) and value.strip().casefold() == "false")


def _read_alpaca(fields: Fields, faults: Faults) -> Example:
    system = _system(fields, faults)
    question = instruction_text(fields["instruction"], '"instruction"', faults)
    context_key = _first(fields, CONTEXTS)
    context = optional_text(fields.get(context_key), f'"{context_key}"', faults) if context_key else ""
    output_key = _first(fields, OUTPUTS) or OUTPUTS[0]
    answer = response_text(fields.get(output_key), f'"{output_key}"', faults)
    before = _history(fields.get("history"), faults)
    if before:  # the context of an example belongs to its first instruction, and this one is not the first
        question, context = with_context(question, context), ""
    return Example(messages=(*system, *before, Message(USER, question), Message(ASSISTANT, answer)), context=context)


def _history(value: Any, faults: Faults) -> list[Message]:
    """The turns before the instruction: LLaMA-Factory's list of [instruction, response]."""
    if value in EMPTY:
        return []
    pairs = earlier_turns(value)
    if pairs is None:
        faults.append('"history" is not a list of pairs; expected [[instruction, response], …]')
        return []
    return [
        Message(role, read(text, f'"history", pair {number}', faults))
        for number, pair in enumerate(pairs, start=1)
        for (role, read), text in zip(((USER, instruction_text), (ASSISTANT, response_text)), pair, strict=True)
    ]


def _read_completion(fields: Fields, faults: Faults) -> Example:
    question_key = _first(fields, QUESTIONS) or QUESTIONS[0]
    answer_key = _first(fields, ANSWERS) or ANSWERS[0]
    if _is_turns(fields[question_key]) or _is_turns(fields[answer_key]):
        turns = [*_turns(fields[question_key], USER, weight=0), *_turns(fields[answer_key], ASSISTANT)]
        return _conversation({**fields, "messages": turns}, "messages", Spelling(roles=OPENAI_ROLES), faults)
    system = _system(fields, faults)
    question = instruction_text(fields[question_key], f'"{question_key}"', faults)
    answer = response_text(fields[answer_key], f'"{answer_key}"', faults)
    context = fields.get("context")
    return Example(
        messages=(*system, Message(USER, question), Message(ASSISTANT, answer)),
        context=optional_text(context, '"context"', faults) if isinstance(context, str) else "",
    )


def _is_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) for turn in value)


def _turns(value: Any, role: str, **changes: int) -> list[Any]:
    """A prompt or completion as turns. Responses inside a prompt are context, so they have the weight 0."""
    turns = value if isinstance(value, list) else [{"role": role, "content": value}]
    return [turn | changes if isinstance(turn, dict) and turn.get("role") == ASSISTANT else turn for turn in turns]


def _read_text(fields: Fields, faults: Faults) -> Example:
    return Example(text=required_text(fields["text"], '"text"', faults))


def _has(fields: Fields, *names: Sequence[str]) -> bool:
    return all(_first(fields, choice) is not None for choice in names)


_FORMATS = (
    Format(
        name="messages",
        shape='{"messages": [{"role": …, "content": …}, …]}',
        fits=lambda fields: _has_conversation(fields, ("messages",)),
        read=_read_messages,
        keys=(("messages",),),
        conversation=("messages",),
    ),
    Format(
        name="sharegpt",
        shape='{"conversations": [{"from": …, "value": …}, …]}',
        fits=lambda fields: _has_conversation(fields, CONVERSATIONS),
        read=_read_sharegpt,
        keys=(CONVERSATIONS,),
        conversation=CONVERSATIONS,
    ),
    Format(
        name="alpaca",
        shape='{"instruction": …, "input": …, "output": …}',
        fits=lambda fields: _has(fields, ("instruction",), OUTPUTS),
        read=_read_alpaca,
        keys=(("instruction",), CONTEXTS, OUTPUTS, ("history",)),
    ),
    Format(
        name="completion",
        shape='{"prompt": …, "completion": …}',
        fits=lambda fields: _has(fields, QUESTIONS, ANSWERS),
        read=_read_completion,
        keys=(QUESTIONS, ANSWERS, ("context",)),
    ),
    Format(
        name="text",
        shape='{"text": …}',
        fits=lambda fields: "text" in fields,
        read=_read_text,
        keys=(("text",),),
    ),
)
FORMATS = {format.name: format for format in _FORMATS}
"""Formats by name, the most specific first."""
