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


def content(example: Example) -> str:
    """The text of an example as one line of JSON; equal for duplicates, wherever they come from."""
    turns = [[message.role, message.content] for message in example.messages]
    return json.dumps([turns, example.context, example.text])
