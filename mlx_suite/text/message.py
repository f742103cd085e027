"""One turn of a conversation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"


@dataclass(frozen=True)
class Message:
    """Role and content of one turn."""

    role: str
    """`system`, `user` or `assistant`; other roles are for templates that support them."""
    content: str
    """The text, without template markup."""
    trained: bool = True
    """Whether finetuning may train on this turn. A dataset can exclude individual responses."""
    reasoning: str = ""
    """What the model thought before `content`, where the dataset keeps it in a field of its own."""


def fold_system(messages: Sequence[Message]) -> list[Message]:
    """Prepend the system text and a blank line to the first user turn.

    For templates that reject the system role, such as Gemma 2's. Without a user turn the system text becomes one.
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
