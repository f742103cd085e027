"""Advisory locks: one run per folder. A lock is released when its process ends, for whatever reason."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UserError
from .files import disk_errors

LOCK_NAME = ".lock"

# Some network file systems do not support locks; runs continue without one there.
_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


@contextmanager
def folder_lock(folder: Path | str) -> Iterator[None]:
    """Lock `folder` (created if missing) for this process until the block ends.

    The lock is on a file `.lock` in the folder. The file stays: if it were deleted, two runs could lock two files. It
    holds the process id while the folder is locked, and after a kill; it is empty if the block has ended.

    Raises UserError if another run holds the folder (with its process id), or the disk is full.
    """
    file = Path(folder) / LOCK_NAME
    with disk_errors(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        take_lock(handle, file.parent)
        with disk_errors(file.parent):
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def take_lock(handle: int, where: Path) -> None:
    """Lock the open file `handle` for this process. Raises UserError naming `where` if it is locked already."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(handle, 20, 0).decode(errors="replace").strip()
        raise UserError(
            f"Another run is using it (process {holder})" if holder.isdigit() else "Another run is using it",
            where=str(where),
            fix="wait for that run, stop it, or choose another folder",
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise


def is_held(file: Path | str) -> bool | None:
    """Whether another process holds the lock on `file`; None if the file system does not support locks.

    The check takes a shared lock for a moment, so that several processes can check at the same time.
    """
    try:
        handle = os.open(file, os.O_RDWR)  # some network file systems lock only writable files
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
        return None
    finally:
        os.close(handle)
    return False
