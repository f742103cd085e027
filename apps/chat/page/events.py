"""Server-sent events to every open tab: what changed, and the text of the responses that it watches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from ..api.sse import sse_event

PING_SECONDS = 15.0
"""A comment is sent after this time without an event, so that a connection that is gone is noticed."""


class Watched(Protocol):
    """A response whose text grows."""

    message: int
    version: int
    """Grows with every change."""
    html: str

    def progress(self) -> Mapping[str, Any]:
        """Its state, without its HTML."""
        ...


class Hub:
    """Hands events to all listeners. All methods belong to the event loop's thread."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    def publish(self, name: str, data: Any) -> None:
        """Send an event to every listener."""
        event = sse_event(data, name)
        for listener in self._listeners:
            listener.waiting.append(event)
        self.wake()

    def wake(self) -> None:
        """Let the listeners look at the responses that they watch."""
        for listener in self._listeners:
            listener.woken.set()

    @contextmanager
    def listener(self) -> Iterator[Listener]:
        """A listener that gets all events from now on."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)


class Listener:
    """The events that one tab has not been sent yet."""

    def __init__(self) -> None:
        self.waiting: deque[str] = deque()
        self.woken = asyncio.Event()


async def event_stream(hub: Hub, watched: Callable[[], Iterable[Watched]]) -> AsyncIterator[str]:
    """Events for one tab, without end.

    The HTML of a response is sent as far as it differs from what this tab was sent before: `keep` UTF-16 units of that
    stay. A tab that reads slowly skips versions, and nothing piles up.
    """
    sent: dict[int, tuple[int, str]] = {}
    with hub.listener() as listener:
        yield sse_event({}, "hello")
        while True:
            listener.woken.clear()
            while listener.waiting:
                yield listener.waiting.popleft()
            for reply in tuple(watched()):
                version, html = sent.get(reply.message, (-1, ""))
                if version != reply.version:
                    sent[reply.message] = reply.version, reply.html
                    keep = common_start(html, reply.html)
                    change = {"keep": len(html[:keep].encode("utf-16-le")) // 2, "html": reply.html[keep:]}
                    yield sse_event({**reply.progress(), **change}, "text")
            try:
                await asyncio.wait_for(listener.woken.wait(), PING_SECONDS)
            except TimeoutError:
                yield ": ping\n\n"


def common_start(one: str, other: str) -> int:
    """Number of characters with which both texts begin."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
