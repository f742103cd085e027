"""Server-sent events. Source: the event stream format of the HTML standard, section 9.2."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from starlette.types import Message, Send

from .answering import Cancellable, StreamedAnswer

PING = b": ping\n\n"
"""A comment: it tells proxies and clients that a silent stream lives."""
PING_SECONDS = 10.0
DONE = "data: [DONE]\n\n"
"""The last event of OpenAI's streams."""


def sse_event(data: Any, name: str | None = None) -> str:
    """One event with JSON data; `name` is its type."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"


class EventStream(StreamedAnswer):
    """A response that streams events, with pings while none comes; `work` is cancelled if the client leaves."""

    def __init__(self, events: AsyncIterator[str], work: Cancellable) -> None:
        super().__init__(events, work, "text/event-stream")

    async def stream_response(self, send: Send) -> None:
        """Send the events, and a ping whenever nothing has been sent for a while."""
        loop = asyncio.get_running_loop()
        last = loop.time()

        async def noted(message: Message) -> None:
            nonlocal last
            last = loop.time()
            await send(message)

        async def ping() -> None:
            while True:
                await asyncio.sleep(max(0.0, last + PING_SECONDS - loop.time()))
                if loop.time() - last >= PING_SECONDS:
                    await noted({"type": "http.response.body", "body": PING, "more_body": True})

        pinger = asyncio.create_task(ping())
        try:
            await super().stream_response(noted)
        finally:
            pinger.cancel()
            with suppress(asyncio.CancelledError):
                await pinger
