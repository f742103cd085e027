"""The request for a response: a path of the conversation as turns, without what the user dropped."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from mlx_suite.serving.chat import ChatMessage, ChatRequest
from mlx_suite.text.message import SYSTEM, USER

from ..store.conversation import Conversation, StoredMessage
from .sampling import SamplingSettings, stored_settings

DROPPED = "dropped"
"""Key in a conversation's `sampling`: how many of the oldest exchanges are left out of prompts."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a response is generated with."""

    model: str = ""
    system: str = ""
    settings: SamplingSettings = field(default_factory=SamplingSettings)
    dropped: int = 0
    seed: int | None = None
    """Seed if the settings have none."""


def setup_of(conversation: Conversation) -> Setup:
    """The setup that a conversation has."""
    dropped = conversation.sampling.get(DROPPED, 0)
    return Setup(
        model=conversation.model,
        system=conversation.system,
        settings=stored_settings(conversation.sampling),
        dropped=dropped if isinstance(dropped, int) and dropped > 0 else 0,
    )


def chat_request(setup: Setup, path: Sequence[StoredMessage]) -> ChatRequest:
    """The request for what follows the last message of a path; it continues the text of a response.

    It has a seed also where the user chose none, so that the response can be repeated.
    """
    settings = setup.settings
    seed = setup.seed if settings.seed is None else settings.seed
    system = [ChatMessage(role=SYSTEM, content=setup.system)] if setup.system.strip() else []
    return ChatRequest(
        model=setup.model,
        messages=(*system, *turns(without_oldest(path, setup.dropped))),
        limit=settings.max_tokens,
        sampling=settings.sampling(),
        seed=new_seed() if seed is None else seed,
    )


def new_seed() -> int:
    """A random seed."""
    return secrets.randbelow(1 << 31)


def turns(path: Iterable[StoredMessage]) -> list[ChatMessage]:
    """Alternating turns: empty ones are left out, and neighbours of one role are joined by a blank line."""
    joined: list[ChatMessage] = []
    for message in path:
        if not message.content:
            continue
        if joined and joined[-1].role == message.role:
            joined[-1] = replace(joined[-1], content=f"{joined[-1].content}\n\n{message.content}")
        else:
            joined.append(ChatMessage(role=message.role, content=message.content))
    return joined


def without_oldest(path: Sequence[StoredMessage], exchanges: int) -> Sequence[StoredMessage]:
    """The path without its oldest exchanges; the last one always stays."""
    starts = exchange_starts(path)
    return path[starts[min(exchanges, len(starts) - 1)] :] if starts else path


def exchange_starts(path: Sequence[StoredMessage]) -> list[int]:
    """Index of each user turn that begins an exchange."""
    before = ["", *(message.role for message in path)]
    return [at for at, message in enumerate(path) if message.role == USER and before[at] != USER]
