"""A lock that tells whether the program that writes a reply is still alive."""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from pathlib import Path

from mlx_suite.runtime.files import disk_errors
from mlx_suite.runtime.lock import is_held


class WriterLock:
    """A locked file next to the conversations, held until `release` or the end of the process, for whatever reason.

    Its name goes into each unfinished message. A message whose writer holds no lock was abandoned.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self.name = uuid.uuid4().hex
        self._file = _file(database, self.name)
        with disk_errors(self._file):
            _remove_abandoned(database)
            self._handle = self._locked()

    def is_alive(self, name: str) -> bool:
        """Whether the writer of this name, of whichever process, still holds its lock."""
        return is_held(_file(self._database, name)) is True

    def release(self) -> None:
        """Give the lock up; may be called more than once."""
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            self._file.unlink(missing_ok=True)
            os.close(handle)

    def _locked(self) -> int:
        """The handle of the new file, locked."""
        while True:
            handle = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
            # Another program may have taken the file for an abandoned one in the moment before it was locked.
            if _is(self._file, handle):
                return handle
            os.close(handle)


def _file(database: Path, name: str) -> Path:
    return database.with_name(f"{database.name}-writer-{name}")


def _is(file: Path, handle: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _remove_abandoned(database: Path) -> None:
    """Delete the files of writers that were killed."""
    for file in database.parent.iterdir():
        if not file.name.startswith(f"{database.name}-writer-"):
            continue
        try:
            handle = os.open(file, os.O_RDWR)
        except (FileNotFoundError, PermissionError):  # gone in the meantime, or another user's
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                raise
        finally:
            os.close(handle)
