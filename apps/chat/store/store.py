"""Store of the chat page's conversations, in one file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlx_suite.runtime.errors import UserError
from mlx_suite.text.message import ASSISTANT

from .conversation import COMPLETE, WRITING, Conversation, NotFound, StoredMessage, checked, json_text, timestamp
from .database import Database, default_path
from .reply import SAVE_SECONDS, Reply, stop_abandoned
from .rows import (
    insert_conversation,
    insert_message,
    insert_tree,
    newest_leaf,
    read_conversation,
    read_conversations,
    read_message,
    read_messages,
    read_path,
)
from .search import Hit, excerpt, index_text, matching, terms
from .writer import WriterLock

Tree = tuple[Conversation, Sequence[StoredMessage]]
"""A conversation with all its messages, parents before their children."""


class Store:
    """Conversations in a file. A change is on disk when its method returns. Several threads may share a store.

    Args:
        path: The file; None for the one in the user's data folder.
        clock: Tells the time.
        save_seconds: Replies are saved at most this often while they are written.

    Raises UserError if the file cannot be used. Methods raise NotFound for what does not exist, and UserError for a
    full disk or a file that another program keeps busy.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        save_seconds: float = SAVE_SECONDS,
    ) -> None:
        self.file = (path or default_path()).expanduser()
        self._clock = clock
        self._save_seconds = save_seconds
        self._database = Database(self.file)
        self._writer = WriterLock(self.file)

    def close(self) -> None:
        """Close the file; no thread may be using it. Unfinished replies count as stopped."""
        self._database.close()
        self._writer.release()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- conversations

    def create(
        self, title: str = "", *, model: str = "", system: str = "", sampling: Mapping[str, Any] | None = None
    ) -> Conversation:
        """A new conversation without messages."""
        now = self._now()
        new = Conversation(
            id=0, title=title, model=model, system=system, sampling=sampling or {}, created=now, updated=now
        )
        with self._database.write() as db:
            return read_conversation(db, insert_conversation(db, new))

    def conversation(self, conversation: int) -> Conversation:
        """One conversation."""
        with self._database.read() as db:
            return read_conversation(db, conversation)

    def conversations(self) -> tuple[Conversation, ...]:
        """All conversations, the last updated first."""
        with self._database.read() as db:
            return read_conversations(db)

    def change(
        self,
        conversation: int,
        *,
        title: str | None = None,
        model: str | None = None,
        system: str | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> Conversation:
        """Rename a conversation or change its settings; None leaves a value as it is."""
        with self._database.write() as db:
            old = read_conversation(db, conversation)
            new = replace(
                old,
                title=old.title if title is None else title,
                model=old.model if model is None else model,
                system=old.system if system is None else system,
                sampling=old.sampling if sampling is None else sampling,
            )
            db.execute(
                "UPDATE conversation SET title = ?, model = ?, system = ?, sampling = ? WHERE id = ?",
                (checked(new.title), checked(new.model), checked(new.system), json_text(new.sampling), conversation),
            )
            index_text(db, -conversation, new.title)
            return read_conversation(db, conversation)

    def delete(self, conversation: int) -> None:
        """Delete a conversation and all its messages."""
        with self._database.write() as db:
            read_conversation(db, conversation)
            db.execute(
                "DELETE FROM search WHERE rowid IN (SELECT id FROM message WHERE conversation = ?)", (conversation,)
            )
            db.execute("DELETE FROM search WHERE rowid = ?", (-conversation,))
            db.execute("DELETE FROM message WHERE conversation = ?", (conversation,))
            db.execute("DELETE FROM conversation WHERE id = ?", (conversation,))

    def search(self, query: str, limit: int = 50) -> tuple[Hit, ...]:
        """Conversations with every term of the query in their title or in one message, the last updated first."""
        wanted = terms(query)
        if not wanted:
            return ()
        stop_abandoned(self._database, self._writer)
        hits = []
        with self._database.read() as db:
            for number, message in matching(db, wanted, limit, has_index=self._database.has_index):
                conversation = read_conversation(db, number)
                text = conversation.title if message is None else read_message(db, message).content
                hits.append(Hit(conversation=conversation, message=message, excerpt=excerpt(text, wanted)))
        return tuple(hits)

    # ---- messages

    def add(
        self,
        conversation: int,
        parent: int | None,
        role: str,
        content: str,
        facts: Mapping[str, Any] | None = None,
    ) -> StoredMessage:
        """Add a message after `parent`, or as a first message; it becomes the current leaf."""
        with self._database.write() as db:
            message = self._insert_after(db, conversation, parent, role, content, facts)
            return read_message(db, message)

    def begin(self, conversation: int, parent: int | None, facts: Mapping[str, Any] | None = None) -> Reply:
        """Begin a response after `parent`; it becomes the current leaf and is saved while it is written."""
        with self._database.write() as db:
            message = self._insert_after(db, conversation, parent, ASSISTANT, "", facts, WRITING)
        return self._reply(message)

    def edit(self, message: int, content: str, facts: Mapping[str, Any] | None = None) -> StoredMessage:
        """Add a sibling of a message with another content; it becomes the current leaf."""
        with self._database.write() as db:
            old = read_message(db, message)
            return read_message(db, self._insert_after(db, old.conversation, old.parent, old.role, content, facts))

    def regenerate(self, message: int, facts: Mapping[str, Any] | None = None) -> Reply:
        """Begin a sibling of a response."""
        old = self.message(message)
        _check_response(old)
        return self.begin(old.conversation, old.parent, facts)

    def resume(self, message: int) -> Reply:
        """Continue the text of a finished response; it becomes the current leaf."""
        stop_abandoned(self._database, self._writer)
        with self._database.write() as db:
            old = read_message(db, message)
            _check_response(old)
            if old.state == WRITING:
                raise UserError("The response is still being written", fix="stop it first")
            db.execute("UPDATE message SET state = ?, writer = ? WHERE id = ?", (WRITING, self._writer.name, message))
            self._show(db, old.conversation, message)
        return self._reply(message, saved=len(old.content))

    def message(self, message: int) -> StoredMessage:
        """One message."""
        stop_abandoned(self._database, self._writer)
        with self._database.read() as db:
            return read_message(db, message)

    def path(self, conversation: int, leaf: int | None = None) -> tuple[StoredMessage, ...]:
        """The messages from the first to `leaf`, by default the current one."""
        stop_abandoned(self._database, self._writer)
        with self._database.read() as db:
            shown = read_conversation(db, conversation).leaf if leaf is None else leaf
            return () if shown is None else read_path(db, conversation, shown)

    def tree(self, conversation: int) -> Tree:
        """A conversation with all its messages, the oldest first."""
        stop_abandoned(self._database, self._writer)
        with self._database.read() as db:
            return read_conversation(db, conversation), read_messages(db, conversation)

    def choose(self, message: int) -> Conversation:
        """Show the branch of a message, down to the newest message of it."""
        with self._database.write() as db:
            chosen = read_message(db, message)
            leaf = newest_leaf(db, chosen)
            db.execute("UPDATE conversation SET leaf = ? WHERE id = ?", (leaf, chosen.conversation))
            return read_conversation(db, chosen.conversation)

    def branch(self, message: int, title: str | None = None) -> Conversation:
        """A new conversation with the settings of this one and a copy of the path to a message."""
        stop_abandoned(self._database, self._writer)
        with self._database.write() as db:
            number = read_message(db, message).conversation
            old, path, now = read_conversation(db, number), read_path(db, number, message), self._now()
            new = replace(old, title=old.title if title is None else title, created=now, updated=now, leaf=message)
            return read_conversation(db, insert_tree(db, new, path))

    def restore(self, trees: Sequence[Tree]) -> tuple[Conversation, ...]:
        """Add conversations with all their messages, either all of them or none; they get ids of this file."""
        with self._database.write() as db:
            return tuple([read_conversation(db, insert_tree(db, *tree)) for tree in trees])

    def _insert_after(
        self,
        db: sqlite3.Connection,
        conversation: int,
        parent: int | None,
        role: str,
        content: str,
        facts: Mapping[str, Any] | None,
        state: str = COMPLETE,
    ) -> int:
        read_conversation(db, conversation)
        if parent is not None and read_message(db, parent).conversation != conversation:
            raise NotFound("message", parent)
        new = StoredMessage(
            id=0,
            conversation=conversation,
            parent=parent,
            role=role,
            content=content,
            created=self._now(),
            state=state,
            facts=facts or {},
        )
        message = insert_message(db, new, self._writer.name if state == WRITING else None)
        self._show(db, conversation, message)
        return message

    def _show(self, db: sqlite3.Connection, conversation: int, leaf: int) -> None:
        db.execute("UPDATE conversation SET leaf = ?, updated = ? WHERE id = ?", (leaf, self._now(), conversation))

    def _reply(self, message: int, saved: int = 0) -> Reply:
        return Reply(
            self._database, self._writer, self._now, message=message, saved=saved, save_seconds=self._save_seconds
        )

    def _now(self) -> str:
        return timestamp(self._clock())


def _check_response(message: StoredMessage) -> None:
    if message.role != ASSISTANT:
        raise UserError(
            f"Message {message.id} is the user's, not a response",
            fix="choose a response of the assistant",
        )
