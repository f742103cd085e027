"""What a tab is sent: small events in order, and of a growing response only what is new."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from mlx_suite_apps.chat.page import events
from mlx_suite_apps.chat.page.events import Hub, common_start, event_stream


@dataclass
class Reply:
    """A response that grows when the test says so."""

    html: str
    message: int = 7
    version: int = 1

    def progress(self) -> dict[str, Any]:
        return {"message": self.message}

    def show(self, html: str) -> None:
        self.html, self.version = html, self.version + 1


async def following(stream: AsyncIterator[str]) -> tuple[str, Any]:
    """Name and data of the next event."""
    name, data = (await asyncio.wait_for(anext(stream), 10)).strip().split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_a_tab_gets_the_whole_text_first_and_then_what_is_new() -> None:
    async def story() -> None:
        hub, reply = Hub(), Reply("<p>One</p>")
        stream = event_stream(hub, lambda: [reply])
        assert await following(stream) == ("hello", {})
        assert await following(stream) == ("text", {"message": 7, "keep": 0, "html": "<p>One</p>"})
        reply.show("<p>One two</p>")
        hub.wake()
        assert await following(stream) == ("text", {"message": 7, "keep": 6, "html": " two</p>"})

    asyncio.run(story())


def test_what_stays_is_counted_as_browsers_count_characters() -> None:
    async def story() -> None:
        hub, reply = Hub(), Reply("<p>🙂</p>")
        stream = event_stream(hub, lambda: [reply])
        await following(stream)
        await following(stream)
        reply.show("<p>🙂 yes</p>")
        hub.wake()
        assert await following(stream) == ("text", {"message": 7, "keep": 5, "html": " yes</p>"})

    asyncio.run(story())


def test_a_slow_tab_skips_versions_but_no_event() -> None:
    async def story() -> None:
        hub, reply = Hub(), Reply("a")
        stream = event_stream(hub, lambda: [reply])
        await following(stream)
        await following(stream)
        for html in ("ab", "abc", "abcd"):
            reply.show(html)
            hub.wake()
        hub.publish("conversation", {"id": 1})
        hub.publish("deleted", {"conversation": 2})
        assert await following(stream) == ("conversation", {"id": 1})
        assert await following(stream) == ("deleted", {"conversation": 2})
        assert await following(stream) == ("text", {"message": 7, "keep": 1, "html": "bcd"})

    asyncio.run(story())


def test_two_tabs_are_sent_the_same_whenever_they_come() -> None:
    async def story() -> None:
        hub, reply = Hub(), Reply("one")
        early = event_stream(hub, lambda: [reply])
        await following(early)
        await following(early)
        reply.show("one two")
        hub.wake()
        late = event_stream(hub, lambda: [reply])
        await following(late)
        assert (await following(late))[1]["html"] == "one two"
        assert (await following(early))[1]["html"] == " two"

    asyncio.run(story())


def test_a_silent_connection_is_pinged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PING_SECONDS", 0.01)

    async def story() -> None:
        stream = event_stream(Hub(), lambda: [])
        await following(stream)
        assert await asyncio.wait_for(anext(stream), 10) == ": ping\n\n"

    asyncio.run(story())


def test_a_tab_that_is_gone_is_forgotten() -> None:
    async def story() -> None:
        hub = Hub()
        stream: Any = event_stream(hub, lambda: [])
        await following(stream)
        assert len(hub._listeners) == 1
        await stream.aclose()
        assert len(hub._listeners) == 0

    asyncio.run(story())


@pytest.mark.parametrize(
    ("one", "other", "length"),
    [("", "abc", 0), ("abc", "abc", 3), ("abc", "abd", 2), ("abcdef", "abc", 3), ("xbc", "abc", 0)],
)
def test_the_common_start_of_two_texts(one: str, other: str, length: int) -> None:
    assert common_start(one, other) == length
