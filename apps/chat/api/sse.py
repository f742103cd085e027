"""Server-sent events, and the end of a request's work when its client disconnects.

Source: the event stream format of the HTML standard, section 9.2.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

PING_SECONDS = 10.0
"""Longest silence of a stream; then a comment tells proxies and clients that it lives."""
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
"""The last event of OpenAI's streams."""


def sse_event(data: Any, name: str | None = None) -> bytes:
    """One event with JSON data; `name` is its type."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {text}\n\n".encode()


class EventStream(StreamingResponse):
    """A response that streams `chunks`, and calls `cancel` as soon as the client disconnects, or if sending fails."""

    media_type = "text/event-stream"

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        cancel: Callable[[], None],
        *,
        ping: bytes = PING,
        media_type: str | None = None,
    ) -> None:
        """
        Args:
            ping: Sent after `PING_SECONDS` of silence; empty for a format without comments.
            media_type: Of another format than server-sent events, such as `application/x-ndjson`.
        """
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(_with_pings(chunks, ping), headers=headers, media_type=media_type)
        self._cancel = cancel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with cancel_on_disconnect(receive, self._cancel):
            try:
                with suppress(OSError):  # the client is gone
                    await self.stream_response(send)
            finally:
                self._cancel()


@asynccontextmanager
async def cancel_on_disconnect(receive: Receive, cancel: Callable[[], None]) -> AsyncIterator[None]:
    """Call `cancel` if the client disconnects inside the `async with` block, or if the block raises.

    `receive` is the request's, whose body has been read.
    """
    watcher = asyncio.create_task(_watch(receive, cancel))
    try:
        yield
    except BaseException:
        cancel()
        raise
    finally:
        watcher.cancel()


async def _watch(receive: Receive, cancel: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    cancel()


async def _with_pings(chunks: AsyncIterator[bytes], ping: bytes) -> AsyncIterator[bytes]:
    following = asyncio.ensure_future(anext(chunks, None))
    try:
        while True:
            ready, _ = await asyncio.wait([following], timeout=PING_SECONDS)
            if not ready:
                if ping:
                    yield ping
                continue
            chunk = following.result()
            if chunk is None:
                return
            yield chunk
            following = asyncio.ensure_future(anext(chunks, None))
    finally:
        following.cancel()
