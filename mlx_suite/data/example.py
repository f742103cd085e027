"""A training example, independent of its file format."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT


@dataclass(frozen=True, kw_only=True)
class ToolTurns:
    """A conversation with tools in OpenAI's form, for chat templates that write them in words of their own."""

    turns: tuple[Mapping[str, Any], ...]
    """Arguments of calls are objects, not text."""
    trained: tuple[bool, ...]
    """Whether finetuning may train on each turn."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Definitions of the tools."""

    def before(self, turn: int) -> "ToolTurns":
        """The turns before the one of this number, with the same tools."""
        return replace(self, turns=self.turns[:turn], trained=self.trained[:turn])

    @property
    def responses(self) -> tuple[int, ...]:
        """Numbers of the assistant's turns."""
        return tuple(number for number, turn in enumerate(self.turns) if turn["role"] == ASSISTANT)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A conversation, or plain text."""

    messages: tuple[Message, ...] = ()
    """The turns in order; empty for plain text."""
    context: str = ""
    """The input of the first instruction, where the format keeps it separate (Alpaca's `input`)."""
    text: str | None = None
    """Plain text to continue; None for a conversation."""
    tool_turns: ToolTurns | None = None
    """The conversation in OpenAI's form if it has tools; in `messages` they are text."""
    place: str = ""
    """`file:line`, for error messages."""


def with_context(instruction: str, context: str) -> str:
    """The instruction as one text: its input follows after a blank line."""
    return f"{instruction}\n\n{context}" if context else instruction


def without_context(text: str, context: object) -> str | None:
    """The instruction of a text made by `with_context`; None for any other text or context."""
    end = f"\n\n{context}"
    return text.removesuffix(end) if isinstance(context, str) and context and text.endswith(end) else None


def content(example: Example) -> str:
    """The text of an example as one line of JSON; equal for duplicates, wherever they come from."""
    turns = [
        [message.role, message.content, *([message.reasoning] if message.reasoning else [])]
        for message in example.messages
    ]
    return json.dumps([turns, example.context, example.text])
