"""A training example, independent of its file format."""

import json
from dataclasses import dataclass

from mlx_suite.text import Message


@dataclass(frozen=True, kw_only=True)
class Example:
    """A conversation, or plain text."""

    messages: tuple[Message, ...] = ()
    """The turns in order; empty for plain text."""
    context: str = ""
    """The input of the first instruction, where the format keeps it separate (Alpaca's `input`)."""
    text: str | None = None
    """Plain text to continue; None for a conversation."""
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
    turns = [[message.role, message.content] for message in example.messages]
    return json.dumps([turns, example.context, example.text])
