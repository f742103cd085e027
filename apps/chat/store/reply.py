"""A response that is saved while it is written."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from mlx_suite.runtime.errors import UserError

from .conversation import COMPLETE, STOPPED, checked, json_text
from .database import Database
from .search import index_text
from .writer import WriterLock

SAVE_SECONDS = 0.25
"""A reply is saved at most this often while it is written; the text since then is what a kill can lose."""


class Reply:
    """An unfinished message of the assistant; one thread at a time writes it.

        with store.begin(conversation, parent) as reply:
            for text in stream:
                saved = reply.add(text)
            reply.finish({"finish_reason": "stop"})

    A block that ends without `finish`, by an error or otherwise, saves the rest and marks the response as stopped.

    Args:
        now: Tells the time as `timestamp` writes it.
        message: Id of the message, which `writer` is marked to be writing.
        saved: Characters that it already has.
        save_seconds: Text is saved by the first `add` after this time; 0 saves at every `add`.
    """

    def __init__(
        self,
        database: Database,
        writer: WriterLock,
        now: Callable[[], str],
        *,
        message: int,
        saved: int = 0,
        save_seconds: float = SAVE_SECONDS,
    ) -> None:
        self.message = message
        """Id of the message."""
        self.saved = saved
        """Characters that survive a kill."""
        self._database = database
        self._writer = writer
        self._now = now
        self._save_seconds = save_seconds
        self._unsaved: list[str] = []
        self._last = time.monotonic()
        self._is_finished = False

    def __enter__(self) -> Reply:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if not self._is_finished:
            # The first error says more than that the rest could not be saved because of it.
            with suppress(*([UserError] if error else [])):
                self.finish(stopped=True)

    def add(self, text: str) -> int:
        """Append text, saving it if it is time; return the number of characters that survive a kill.

        Raises UserError if the text cannot be saved, for example because the disk is full; it is tried again next time.
        """
        self._unsaved.append(checked(text))
        if time.monotonic() - self._last >= self._save_seconds:
            self.save()
        return self.saved

    def save(self) -> int:
        """Save all text added so far; return the number of characters that survive a kill."""
        with self._database.write() as db:
            self._append(db)
        self._took()
        return self.saved

    def finish(self, facts: Mapping[str, Any] | None = None, *, stopped: bool = False) -> None:
        """Save the rest, and that the response is complete, or that the user stopped it.

        Args:
            facts: Added to the facts given at the start.
        """
        with self._database.write() as db:
            self._append(db)
            _settle(db, self.message, STOPPED if stopped else COMPLETE, facts or {})
            db.execute(
                "UPDATE conversation SET updated = ? WHERE id = (SELECT conversation FROM message WHERE id = ?)",
                (self._now(), self.message),
            )
        self._is_finished = True
        self._took()

    def _append(self, db: sqlite3.Connection) -> None:
        text = "".join(self._unsaved)
        done = db.execute(
            "UPDATE message SET content = content || ? WHERE id = ? AND writer = ?",
            (text, self.message, self._writer.name),
        )
        if not done.rowcount:
            raise UserError(
                "The response is finished, or its conversation was deleted", fix="load the conversation again"
            )

    def _took(self) -> None:
        self.saved += sum(map(len, self._unsaved))
        self._unsaved.clear()
        self._last = time.monotonic()


def stop_abandoned(database: Database, writer: WriterLock) -> None:
    """Mark messages as stopped whose writers were killed, or ended without finishing them."""
    with database.read() as db:
        names = [name for (name,) in db.execute("SELECT DISTINCT writer FROM message WHERE writer IS NOT NULL")]
    dead = [name for name in names if name != writer.name and not writer.is_alive(name)]
    if not dead:
        return
    with database.write() as db:
        for name in dead:
            for (message,) in db.execute("SELECT id FROM message WHERE writer = ?", (name,)).fetchall():
                _settle(db, message, STOPPED, {})


def _settle(db: sqlite3.Connection, message: int, state: str, facts: Mapping[str, Any]) -> None:
    """End the writing of a message, and make its text searchable."""
    [[content, known]] = db.execute("SELECT content, facts FROM message WHERE id = ?", (message,))
    db.execute(
        "UPDATE message SET state = ?, writer = NULL, facts = ? WHERE id = ?",
        (state, json_text({**json.loads(known), **facts}), message),
    )
    index_text(db, message, content)
