"""Preference pairs as a format of rows: a question, a better and a worse answer.

    {"messages": [… up to the question], "chosen": "…", "rejected": "…"}          what `magpie pairs` writes
    {"prompt": "…", "chosen": "…", "rejected": "…"}                               texts
    {"prompt": […], "chosen": [turns], "rejected": [turns]}                       turns, with or without the question

As a conversation, a pair is its question and the better answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mlx_suite.data.example import Example
from mlx_suite.data.read.conversation import OPENAI_ROLES, Spelling, read_turns
from mlx_suite.data.read.faults import Faults, answer_text, optional_text, required_text
from mlx_suite.data.read.formats import SYSTEMS, Format
from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER

Fields = Mapping[str, Any]
_SIDES = ("chosen", "rejected")


def sides_of(fields: Fields) -> dict[str, str]:
    """The texts of both answers of a row that could be read."""
    return {side: _answer(fields[side], side, []) for side in _SIDES}


def _read(fields: Fields, faults: Faults) -> Example:
    chosen, rejected = (_answer(fields[side], side, faults) for side in _SIDES)
    if not faults and chosen == rejected:
        faults.append('"chosen" and "rejected" are the same; expected two answers')
    question = _question(fields, chosen or "?", faults)
    return Example(messages=(*question, Message(ASSISTANT, chosen)))


def _question(fields: Fields, chosen: str, faults: Faults) -> tuple[Message, ...]:
    """The turns before the answer."""
    if isinstance(fields.get("prompt"), str):
        system = optional_text(next((fields[key] for key in SYSTEMS if key in fields), None), '"system"', faults)
        asked = Message(USER, required_text(fields["prompt"], '"prompt"', faults))
        return (Message(SYSTEM, system), asked) if system else (asked,)
    key = next((key for key in ("messages", "prompt", "chosen") if isinstance(fields.get(key), list)), None)
    if key is None:
        faults.append('neither "messages" nor "prompt" says what was asked; expected one of them')
        return ()
    # Read with an answer behind them, as without one they would be no conversation.
    turns = [*_before_answer(fields[key]), {"role": ASSISTANT, "content": chosen}]
    return read_turns(turns, f'"{key}"', Spelling(roles=OPENAI_ROLES), faults)[:-1]


def _before_answer(turns: Sequence[Any]) -> Sequence[Any]:
    last = turns[-1] if turns else None
    return turns[:-1] if isinstance(last, dict) and last.get("role") == ASSISTANT else turns


def _answer(value: Any, side: str, faults: Faults) -> str:
    """A text, or the last of some turns."""
    if isinstance(value, list) and value and isinstance(value[-1], dict) and value[-1].get("role") == ASSISTANT:
        value = value[-1].get("content")
    return answer_text(value, f'"{side}"', faults)


PAIRS = Format(
    name="pairs",
    shape='{"messages": [… the question], "chosen": …, "rejected": …}',
    fits=lambda fields: all(fields.get(side) is not None for side in _SIDES),
    read=_read,
)
