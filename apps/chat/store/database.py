"""The SQLite file of the conversations: its place, its schema, and one connection for each thread.

Every transaction is flushed to disk (WAL, synchronous=FULL) before it is acknowledged, so neither kill -9 nor a power
cut loses it. Several processes may use one file at the same time.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import disk_errors

from ..data_folder import data_folder

FILE_NAME = "chat.sqlite3"
BUSY_SECONDS = 30.0
"""Seconds that a transaction waits for another program's."""
SCHEMA_VERSION = 1
APPLICATION_ID = 0x6D6C7863
"""Marks the file as ours in its header: "mlxc"."""

SCHEMA = (
    """
    CREATE TABLE conversation (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        title TEXT NOT NULL,
        model TEXT NOT NULL,
        system TEXT NOT NULL,
        sampling TEXT NOT NULL,
        created TEXT NOT NULL,
        updated TEXT NOT NULL,
        leaf INTEGER REFERENCES message DEFERRABLE INITIALLY DEFERRED
    )
    """,
    # Parents do not cascade: SQLite deletes recursively, and stops at a depth of 1,000.
    """
    CREATE TABLE message (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation INTEGER NOT NULL REFERENCES conversation DEFERRABLE INITIALLY DEFERRED,
        parent INTEGER REFERENCES message DEFERRABLE INITIALLY DEFERRED,
        role TEXT NOT NULL,
        content TEXT NOT NULL,
        created TEXT NOT NULL,
        state TEXT NOT NULL,
        writer TEXT,
        facts TEXT NOT NULL
    )
    """,
    "CREATE INDEX message_conversation ON message (conversation)",
    "CREATE INDEX message_parent ON message (parent)",
    "CREATE INDEX conversation_leaf ON conversation (leaf)",
    "CREATE INDEX message_writer ON message (writer) WHERE writer IS NOT NULL",
)

# The first that this SQLite can create. A row is a message by its id, or a title by minus the id of its conversation.
# Without positions (detail = none) the index has half the size; `matching` looks at the text itself anyway.
SEARCH_TABLES = (
    "CREATE VIRTUAL TABLE search USING fts5(folded, tokenize = 'trigram case_sensitive 1', detail = none)",
    "CREATE TABLE search (folded TEXT NOT NULL)",
)

_PROBLEMS = {
    sqlite3.SQLITE_BUSY: (
        f"Another program has been writing to the conversations for more than {BUSY_SECONDS:.0f} seconds",
        "close the other program, then try again",
    ),
    sqlite3.SQLITE_FULL: ("The disk is full. What was saved before is untouched.", "free some space, then try again"),
    sqlite3.SQLITE_READONLY: (
        "Writing the conversations is not allowed",
        "change the permissions of the file and of its folder, or choose another file",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "The file cannot be opened",
        "change the permissions of the file and of its folder, or choose another file",
    ),
    sqlite3.SQLITE_NOTADB: ("The file is not a SQLite database", "choose another file, or move this one away"),
    sqlite3.SQLITE_CORRUPT: ("The file is damaged", "restore it from a backup, or move it away to begin a new one"),
    sqlite3.SQLITE_IOERR: ("The disk reported an error", "check the disk, or choose a file on another one"),
}


def default_path() -> Path:
    """The file in the user's data folder."""
    return data_folder() / FILE_NAME


class Database:
    """An open file of conversations; created if missing, readable by its owner only.

    Raises UserError if the file is another program's, was written by a newer version, or cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = threading.local()
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        with disk_errors(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        try:
            with sqlite_errors(path):
                self._check()
                _use_wal(self._connection())
            with self.write() as db:
                if not _version(db):
                    _create(db)
            with self.read() as db:
                self.has_index = _has_index(db, path)
                """Whether the search table is an FTS5 index of trigrams."""
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection in a transaction that sees one state of the file."""
        with self._transaction("BEGIN") as db:
            yield db

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection in a transaction that is durable after the block, or undone by an error in it."""
        # Taking the write lock at once avoids a deadlock of two transactions that both read first.
        with self._transaction("BEGIN IMMEDIATE") as db:
            yield db

    def close(self) -> None:
        """Close the connections of all threads; none may be in use."""
        for connection in list(self._connections):
            connection.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with sqlite_errors(self.path):
            db = self._connection()
            db.execute(begin)
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _connection(self) -> sqlite3.Connection:
        connection: _Connection | None = getattr(self._thread, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self.path,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,  # `close` is called by one thread for all
                factory=_Connection,
            )
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")
            self._thread.connection = connection
            self._connections.add(connection)
        return connection

    def _check(self) -> None:
        """Raise UserError for a file that is not ours to write; nothing in it is changed before."""
        db = self._connection()
        [[tables]] = db.execute("SELECT count(*) FROM sqlite_master")
        [[application]] = db.execute("PRAGMA application_id")
        if tables and application != APPLICATION_ID:
            raise UserError(
                "The file is a database of another program",
                where=str(self.path),
                fix="choose another file",
            )
        version = _version(db)
        if version > SCHEMA_VERSION:
            raise UserError(
                f"The file was written by a newer mlx-suite (schema {version}; this one knows {SCHEMA_VERSION})",
                where=str(self.path),
                fix="pip install --upgrade mlx-suite, or choose another file",
            )


class _Connection(sqlite3.Connection):
    """A connection that weak references can point to: it is closed when its thread ends."""


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Convert SQLite's errors about the file or the disk to `UserError`s; other errors pass through."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte of an extended code
        if code not in _PROBLEMS:
            raise
        what, fix = _PROBLEMS[code]
        raise UserError(what, where=str(path), fix=fix) from error


def _version(db: sqlite3.Connection) -> int:
    [[version]] = db.execute("PRAGMA user_version")
    return int(version)


def _use_wal(db: sqlite3.Connection) -> None:
    """Turn on write-ahead logging. SQLite does not wait for other programs here, so this does."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _create(db: sqlite3.Connection) -> None:
    for statement in SCHEMA:
        db.execute(statement)
    *preferred, last = SEARCH_TABLES
    for statement in preferred:
        try:
            db.execute(statement)
            break
        except sqlite3.OperationalError as error:
            if not _lacks_module(error):
                raise
    else:
        db.execute(last)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _has_index(db: sqlite3.Connection, path: Path) -> bool:
    """Whether the search table is an index. Raises UserError if this Python's SQLite cannot use it."""
    [[statement]] = db.execute("SELECT sql FROM sqlite_master WHERE name = 'search'")
    try:
        db.execute("SELECT rowid FROM search LIMIT 1").fetchall()
    except sqlite3.OperationalError as error:
        if not _lacks_module(error):
            raise
        raise UserError(
            f"The file has an FTS5 search index, which this Python's SQLite {sqlite3.sqlite_version} cannot read",
            where=str(path),
            fix="use the Python that made the file, or choose another file",
        ) from error
    return "VIRTUAL" in statement


def _lacks_module(error: sqlite3.OperationalError) -> bool:
    """Whether this SQLite was compiled without FTS5, or is too old for its trigrams."""
    return any(words in str(error) for words in ("no such module", "tokenizer"))
