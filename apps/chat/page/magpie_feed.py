"""The events of a Magpie session for one reader: a snapshot, then what has changed since.

Changes wait until the reader takes them. They are merged, so a slow reader costs no more memory than the rows
themselves, and a fast model does not cost an event for every token.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from .magpie_row import Part

PAUSE = 0.04
"""Seconds between two takes, about the time of a picture in a film."""
QUIET = 15.0
"""Seconds after which a feed without changes says so, which shows whether the reader is still there."""
Event = tuple[str, Mapping[str, Any]]
"""Name and data: `snapshot`, `session`, `row`, `text` or `quiet`."""


class MagpieFeed:
    """The changes that one reader has not taken yet."""

    def __init__(self, snapshot: Mapping[str, Any]) -> None:
        self._waiting = asyncio.Event()
        self._waiting.set()
        self._snapshot: Mapping[str, Any] | None = snapshot
        self._session: Mapping[str, Any] | None = None
        self._rows: dict[int, dict[str, Any]] = {}
        self._texts: dict[tuple[int, Part], str] = {}
        self._is_closed = False

    def session(self, state: Mapping[str, Any]) -> None:
        """The session's state has changed."""
        self._session = state
        self._waiting.set()

    def row(self, row: dict[str, Any]) -> None:
        """A row has changed in more than the end of a text."""
        self._rows[row["index"]] = row
        self._texts = {key: text for key, text in self._texts.items() if key[0] != row["index"]}
        self._waiting.set()

    def text(self, index: int, part: Part, piece: str) -> None:
        """A text of a row has grown."""
        if index in self._rows:
            row = self._rows[index]
            self._rows[index] = {**row, part: row[part] + piece}
        else:
            self._texts[index, part] = self._texts.get((index, part), "") + piece
        self._waiting.set()

    def close(self) -> None:
        """End the feed after what is waiting."""
        self._is_closed = True
        self._waiting.set()

    def take(self) -> Iterator[Event]:
        """Yield the waiting changes."""
        self._waiting.clear()
        snapshot, state, rows, texts = self._snapshot, self._session, self._rows, self._texts
        self._snapshot, self._session, self._rows, self._texts = None, None, {}, {}
        if snapshot is not None:
            yield "snapshot", snapshot
        for row in rows.values():
            yield "row", row
        for (index, part), piece in texts.items():
            yield "text", {"index": index, "part": part, "text": piece}
        if state is not None:
            yield "session", state

    async def __aiter__(self) -> AsyncIterator[Event]:
        while not self._is_closed:
            try:
                await asyncio.wait_for(self._waiting.wait(), QUIET)
            except TimeoutError:
                yield "quiet", {}
            for event in self.take():
                yield event
            await asyncio.sleep(PAUSE)
        for event in self.take():
            yield event
