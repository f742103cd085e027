"""A conversation and the messages of its tree, as they are stored.

Messages form a tree: an edit or a regenerated response is a sibling of the message that it replaces. The page shows one
path through the tree, from a root to the conversation's current leaf.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlx_suite.runtime.errors import UserError
from mlx_suite.text.message import ASSISTANT, USER

ROLES = (USER, ASSISTANT)
"""Roles of messages; the system prompt belongs to the conversation."""

WRITING, COMPLETE, STOPPED = "writing", "complete", "stopped"
STATES = (WRITING, COMPLETE, STOPPED)
"""`writing`: a program is adding text; `stopped`: by the user, or because that program ended."""


class NotFound(UserError):
    """A conversation or message that does not exist, or no longer."""

    def __init__(self, kind: str, number: int) -> None:
        super().__init__(f"There is no {kind} {number}", fix="load the list of conversations again")

    def __reduce__(self) -> tuple[Any, ...]:
        kind, number = self.what.split()[-2:]
        return NotFound, (kind, int(number))


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A conversation without its messages."""

    id: int
    title: str
    model: str = ""
    """Name or path of the model; empty for the server's default."""
    system: str = ""
    """System prompt; empty for none."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Sampling settings that differ from the defaults."""
    created: str
    """Time in ISO 8601, UTC."""
    updated: str
    """Time of the last message, started or finished."""
    leaf: int | None = None
    """Last message of the path that is shown; None in a conversation without messages."""


@dataclass(frozen=True, kw_only=True)
class StoredMessage:
    """A message of a conversation's tree."""

    id: int
    conversation: int
    parent: int | None
    """The message before it; None for the first."""
    role: str
    content: str
    created: str
    """Time in ISO 8601, UTC."""
    state: str = COMPLETE
    """One of STATES."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How a response came about: model, adapter, seed, finish reason, token counts."""
    siblings: tuple[int, ...] = ()
    """Messages with the same parent, this one included, oldest first."""

    @property
    def index(self) -> int:
        """Place among the siblings, from 0."""
        return self.siblings.index(self.id)


def timestamp(moment: datetime) -> str:
    """A time with time zone as text that sorts: `2026-11-28T12:16:25.000000+00:00`."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def checked(text: str) -> str:
    """`text`. Raises UserError if it has half of a surrogate pair, which neither UTF-8 nor a tokenizer can encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        raise UserError(
            f"The text contains half of a surrogate pair, {half}, at character {error.start + 1}",
            fix="remove it; it is what remains of a character that was cut in two",
        ) from error
    return text


def json_text(value: Mapping[str, Any]) -> str:
    """Settings or facts as JSON. Raises UserError for half of a surrogate pair, ValueError for NaN and inf."""
    return checked(json.dumps(value, ensure_ascii=False, allow_nan=False))
