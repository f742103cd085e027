"""Signs of life in a stream whose next event takes long, so that no proxy or client gives it up."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from typing import TypeVar

PING_SECONDS = 10.0
Event = TypeVar("Event")


async def with_pings(events: AsyncIterable[Event], seconds: float = PING_SECONDS) -> AsyncIterator[Event | None]:
    """The events, and None whenever none has come for some seconds. Raises what iterating over the events raises."""
    iterator = aiter(events)
    upcoming: asyncio.Future[Event] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(_next(iterator))
            done, _ = await asyncio.wait({upcoming}, timeout=seconds)
            if not done:
                yield None
                continue
            arrived, upcoming = upcoming, None
            try:
                yield arrived.result()
            except StopAsyncIteration:
                return
    finally:
        if upcoming is not None:
            upcoming.cancel()
            with suppress(BaseException):
                await upcoming


async def _next(iterator: AsyncIterator[Event]) -> Event:
    return await anext(iterator)
