"""A chat whose events are given: for tool calls and reasoning, which a scripted service does not write."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from mlx_suite.serving.chat import ChatEvent, ChatRequest
from mlx_suite.serving.generation import Ended, EndReason, Started

STARTED = Started(choice=0, prompt_tokens=20, cached_tokens=12)


def ended(reason: EndReason = "stop", tokens: int = 5, stop_text: str | None = None) -> Ended:
    """The end of a response to a prompt of 20 tokens, 12 of them cached."""
    return Ended(choice=0, reason=reason, prompt_tokens=20, cached_tokens=12, tokens=tokens, stop_text=stop_text)


@dataclass
class ScriptedChat:
    """Stands in for `start_chat`: answers every request with the same events."""

    events: tuple[ChatEvent | Exception, ...]
    requests: list[ChatRequest] = field(default_factory=list)
    cancelled: int = 0

    async def __call__(self, service: Any, request: ChatRequest) -> "ScriptedChat":
        self.requests.append(request)
        return self

    async def __aiter__(self) -> AsyncIterator[ChatEvent]:
        for event in self.events:
            if isinstance(event, Exception):
                raise event
            yield event

    def cancel(self) -> None:
        self.cancelled += 1
