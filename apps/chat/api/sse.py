"""Server-sent events. Source: the event stream format of the HTML standard, section 9.2."""

import json
from collections.abc import AsyncIterator
from typing import Any

from .answering import Cancellable, StreamedAnswer
from .waiting import with_pings

PING = ": ping\n\n"
"""A comment: it tells proxies and clients that a silent stream lives."""
DONE = "data: [DONE]\n\n"
"""The last event of OpenAI's streams."""


def sse_event(data: Any, name: str | None = None) -> str:
    """One event with JSON data; `name` is its type."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"


class EventStream(StreamedAnswer):
    """A response that streams events, with pings while none comes; `work` is cancelled if the client leaves."""

    def __init__(self, events: AsyncIterator[str], work: Cancellable) -> None:
        super().__init__(_pinged(events), work, "text/event-stream")


async def _pinged(events: AsyncIterator[str]) -> AsyncIterator[str]:
    async for event in with_pings(events):
        yield PING if event is None else event
