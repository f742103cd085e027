"""Conversations and messages as rows of the database, read and inserted within a transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from .conversation import ROLES, STATES, STOPPED, WRITING, Conversation, NotFound, StoredMessage, checked, json_text
from .search import index_text

_CONVERSATION = "id, title, model, system, sampling, created, updated, leaf"
_LARGEST = (1 << 63) - 1
"""Largest integer that SQLite takes."""
_MESSAGE = "message.id, conversation, parent, role, content, created, state, facts"


def read_conversation(db: sqlite3.Connection, conversation: int) -> Conversation:
    """One conversation. Raises NotFound."""
    _check("conversation", conversation)
    for row in db.execute(f"SELECT {_CONVERSATION} FROM conversation WHERE id = ?", (conversation,)):
        return _as_conversation(row)
    raise NotFound("conversation", conversation)


def read_conversations(db: sqlite3.Connection) -> tuple[Conversation, ...]:
    """All conversations, the last updated first."""
    rows = db.execute(f"SELECT {_CONVERSATION} FROM conversation ORDER BY updated DESC, id DESC")
    return tuple(map(_as_conversation, rows))


def read_message(db: sqlite3.Connection, message: int) -> StoredMessage:
    """One message. Raises NotFound."""
    _check("message", message)
    for row in db.execute(f"SELECT {_MESSAGE} FROM message WHERE id = ?", (message,)):
        siblings = db.execute(
            "SELECT id FROM message WHERE conversation = ? AND parent IS ? ORDER BY id", (row[1], row[2])
        )
        return _as_message(row, tuple(sibling for (sibling,) in siblings))
    raise NotFound("message", message)


def read_messages(db: sqlite3.Connection, conversation: int) -> tuple[StoredMessage, ...]:
    """All messages of a conversation, the oldest first."""
    rows = db.execute(f"SELECT {_MESSAGE} FROM message WHERE conversation = ? ORDER BY id", (conversation,))
    return _with_siblings(db, conversation, rows)


def read_path(db: sqlite3.Connection, conversation: int, leaf: int) -> tuple[StoredMessage, ...]:
    """The messages from the first to `leaf`. Raises NotFound if it is not in the conversation."""
    rows = db.execute(
        f"""
        WITH RECURSIVE above(id) AS (
            SELECT id FROM message WHERE id = ? AND conversation = ?
            UNION ALL
            SELECT parent FROM message JOIN above ON message.id = above.id WHERE parent IS NOT NULL
        )
        SELECT {_MESSAGE} FROM message JOIN above ON message.id = above.id ORDER BY message.id
        """,
        (leaf, conversation),
    )
    path = _with_siblings(db, conversation, rows)
    if not path:
        raise NotFound("message", leaf)
    return path


def newest_leaf(db: sqlite3.Connection, message: StoredMessage) -> int:
    """The message itself or, if others follow it, the last of the path along the newest ones."""
    children = db.execute(
        "SELECT parent, max(id) FROM message WHERE conversation = ? AND parent >= ? GROUP BY parent",
        (message.conversation, message.id),  # a parent is older than its children
    )
    newest = dict(children.fetchall())
    leaf = message.id
    while leaf in newest:
        leaf = newest[leaf]
    return leaf


def insert_conversation(db: sqlite3.Connection, new: Conversation) -> int:
    """Insert a conversation without its leaf; return its id, whatever the given one was."""
    done = db.execute(
        "INSERT INTO conversation (title, model, system, sampling, created, updated) VALUES (?, ?, ?, ?, ?, ?)",
        (
            checked(new.title),
            checked(new.model),
            checked(new.system),
            json_text(new.sampling),
            new.created,
            new.updated,
        ),
    )
    conversation = _id(done)
    index_text(db, -conversation, new.title)
    return conversation


def insert_message(db: sqlite3.Connection, new: StoredMessage, writer: str | None = None) -> int:
    """Insert a message, unfinished if it has a writer; return its id, whatever the given one was."""
    assert new.role in ROLES, new.role
    assert new.state in STATES, new.state
    done = db.execute(
        "INSERT INTO message (conversation, parent, role, content, created, state, writer, facts) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.conversation,
            new.parent,
            new.role,
            checked(new.content),
            new.created,
            new.state,
            writer,
            json_text(new.facts),
        ),
    )
    message = _id(done)
    if writer is None:
        index_text(db, message, new.content)
    return message


def insert_tree(db: sqlite3.Connection, conversation: Conversation, messages: Sequence[StoredMessage]) -> int:
    """Insert a conversation with messages, parents before their children; return its id.

    Ids in the file replace the given ones. A message that is being written elsewhere is stopped in the copy.
    """
    number = insert_conversation(db, conversation)
    new: dict[int | None, int | None] = {None: None}
    for message in messages:
        new[message.id] = insert_message(
            db,
            replace(
                message,
                conversation=number,
                parent=new[message.parent],
                state=STOPPED if message.state == WRITING else message.state,
            ),
        )
    db.execute("UPDATE conversation SET leaf = ? WHERE id = ?", (new[conversation.leaf], number))
    return number


def _with_siblings(
    db: sqlite3.Connection, conversation: int, rows: Iterable[tuple[Any, ...]]
) -> tuple[StoredMessage, ...]:
    families: dict[int | None, list[int]] = {}
    for message, parent in db.execute(
        "SELECT id, parent FROM message WHERE conversation = ? ORDER BY id", (conversation,)
    ):
        families.setdefault(parent, []).append(message)
    return tuple(_as_message(row, tuple(families[row[2]])) for row in rows)


def _as_conversation(row: tuple[Any, ...]) -> Conversation:
    number, title, model, system, sampling, created, updated, leaf = row
    return Conversation(
        id=number,
        title=title,
        model=model,
        system=system,
        sampling=json.loads(sampling),
        created=created,
        updated=updated,
        leaf=leaf,
    )


def _as_message(row: tuple[Any, ...], siblings: tuple[int, ...]) -> StoredMessage:
    number, conversation, parent, role, content, created, state, facts = row
    return StoredMessage(
        id=number,
        conversation=conversation,
        parent=parent,
        role=role,
        content=content,
        created=created,
        state=state,
        facts=json.loads(facts),
        siblings=siblings,
    )


def _id(done: sqlite3.Cursor) -> int:
    assert done.lastrowid is not None
    return done.lastrowid


def _check(kind: str, number: int) -> None:
    """Raise NotFound for an id that SQLite would refuse."""
    if not 0 <= number <= _LARGEST:
        raise NotFound(kind, number)
