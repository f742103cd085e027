"""A response while it is generated: its text so far, its meters, and what of it is saved."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mlx_suite.serving.chat import ChatEvent, ReasoningDelta, TextDelta
from mlx_suite.serving.generation import Ended, Started

from .forms import IDS

SHORTEST = 0.2
"""Seconds from which the speed of a response in progress is shown."""


class ResponseStream(Protocol):
    """The events of a response, from `start_chat` or a branch."""

    def __aiter__(self) -> AsyncIterator[ChatEvent]: ...

    def cancel(self) -> None:
        """Stop the work."""
        ...


@dataclass(kw_only=True)
class Live:
    """A response that is being generated."""

    conversation: int
    message: int
    facts: dict[str, Any]
    stream: ResponseStream
    text: str
    ids: list[int] | None = field(default_factory=list)
    """Its tokens so far; None if those of the first words are not known."""
    version: int = 0
    html: str = ""
    shown: int = 0
    """Characters of the text that `html` shows or holds back."""
    saved: int = 0
    """Characters that survive a kill."""
    reasoning: str = ""
    problem: str = ""
    """Why the text cannot be saved at present."""
    tokens: int = 0
    first: float | None = None
    last: float = 0.0
    """Time of the first and of the last token."""
    unsaved: list[str] = field(default_factory=list)
    ended: Ended | None = None
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    fresh: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def take(self, event: ChatEvent) -> None:
        """Note an event of the stream."""
        if isinstance(event, Started):
            self.facts |= {"prompt_tokens": event.prompt_tokens, "cached_tokens": event.cached_tokens}
        elif isinstance(event, Ended):
            self.ended = event
        else:
            self.last = time.monotonic()
            self.first = self.first or self.last
            self.tokens += len(event.tokens)
            if isinstance(event, TextDelta):
                self.text += event.text
                self.unsaved.append(event.text)
                if self.ids is not None:
                    self.ids += [token.id for token in event.tokens]
            elif isinstance(event, ReasoningDelta):
                self.reasoning += event.text
        self.fresh.set()

    def progress(self) -> Mapping[str, Any]:
        """State and meters, without the text."""
        return {
            "conversation": self.conversation,
            "message": self.message,
            "length": self.shown,
            "saved": self.saved,
            "reasoning": self.reasoning,
            "problem": self.problem,
            "facts": {**self.facts, "tokens": self.tokens, "tokens_per_second": self._speed()},
        }

    def result(self) -> dict[str, Any]:
        """Facts of the finished response."""
        facts = dict(self.facts)
        if self.ended is not None:
            facts |= {
                "finish_reason": self.ended.reason,
                "prompt_tokens": self.ended.prompt_tokens,
                "cached_tokens": self.ended.cached_tokens,
                "tokens": self.ended.tokens,
            }
        else:
            facts |= {"finish_reason": None, "tokens": self.tokens}
        speed = None if self.ended is None else self.ended.tokens_per_second
        facts |= {"tokens_per_second": speed and round(speed, 1), IDS: self.ids}
        if self.reasoning:
            facts["reasoning"] = self.reasoning
        return facts

    def _speed(self) -> float | None:
        """Tokens per second after the first one."""
        if self.first is None or self.last - self.first < SHORTEST:  # events of the start may arrive together
            return None
        return round((self.tokens - 1) / (self.last - self.first), 1)
