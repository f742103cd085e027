"""Answers that stop the work when the client leaves, and errors that are logged."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from typing import Protocol, TypeVar

from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from .refusal import Refusal, refusal_of

LOG = logging.getLogger("mlx_suite.server")
Result = TypeVar("Result")


class Cancellable(Protocol):
    """Work that can be stopped."""

    def cancel(self) -> None: ...


class StreamedAnswer(StreamingResponse):
    """A stream whose work is cancelled when it ends or the client leaves, even before the first byte."""

    def __init__(self, content: AsyncIterator[str], work: Cancellable, media_type: str) -> None:
        super().__init__(
            content, media_type=media_type, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._work.cancel()


async def while_connected(request: Request, work: Cancellable, result: Awaitable[Result]) -> Result:
    """Wait for `result`; if the client disconnects first, `work` is cancelled and the answer goes nowhere."""

    async def cancel_on_disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        work.cancel()

    watcher = asyncio.create_task(cancel_on_disconnect())
    try:
        return await result
    finally:
        work.cancel()
        watcher.cancel()
        with suppress(asyncio.CancelledError):
            await watcher


def logged(error: Exception) -> Refusal:
    """The refusal of an error; what is a mistake of ours goes to the log with its traceback."""
    refusal = refusal_of(error)
    if refusal.code == "internal_error":
        LOG.error("a request failed", exc_info=error)
    return refusal


def request_id(request: Request) -> str:
    """The id of a request, which its answer's headers carry too."""
    return str(getattr(request.state, "request_id", None) or f"req_{secrets.token_hex(12)}")
