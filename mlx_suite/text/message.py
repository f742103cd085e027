"""One turn of a conversation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"


@dataclass(frozen=True)
class Message:
    """Who speaks and what is said."""

    role: str
    """`system`, `user` or `assistant`; other roles are for templates that know them."""
    content: str
    """The text, without any markup of the template."""
    trained: bool = True
    """Whether finetuning may learn to write this turn. A dataset can rule out single answers."""


def fold_system(messages: Sequence[Message]) -> list[Message]:
    """The same conversation with its system text in front of the first user turn, a blank line
    between.

    For templates that refuse a system role, as Gemma 2's does. Without a user turn the system text
    becomes one.
    """
    system = "\n\n".join(message.content for message in messages if message.role == SYSTEM)
    rest = [message for message in messages if message.role != SYSTEM]
    if not system:
        return rest
    for place, message in enumerate(rest):
        if message.role == USER:
            text = f"{system}\n\n{message.content}" if message.content else system
            return [*rest[:place], replace(message, content=text), *rest[place + 1 :]]
    return [Message(USER, system), *rest]
