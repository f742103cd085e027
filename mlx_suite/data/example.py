"""One thing to learn from, whatever file it came in."""

from dataclasses import dataclass

from mlx_suite.text import Message


@dataclass(frozen=True, kw_only=True)
class Example:
    """A conversation, or plain text in its place."""

    messages: tuple[Message, ...] = ()
    """The turns in order; empty for plain text."""
    context: str = ""
    """What the first question is about, where the format keeps it apart (Alpaca's `input`)."""
    text: str | None = None
    """Plain text to continue; None for a conversation."""
    place: str = ""
    """`file:line`, for messages about it."""
