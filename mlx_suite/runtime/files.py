"""Atomic writes of files and folders.

Content is written under a temporary name next to the final one, flushed to disk, and renamed: a kill or a full disk at
any moment leaves either the old content or the new. Disk errors become `UserError`s that say what was kept.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import UserError

UNTOUCHED = "What was there before is untouched"

_AT_FDCWD = -100 if sys.platform.startswith("linux") else -2
_EXCHANGE = 2  # RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS

_PROBLEMS = {
    errno.ENOSPC: ("The disk is full", "free some space, then run the same command again"),
    errno.EDQUOT: ("The disk quota is used up", "free some space, then run the same command again"),
    errno.EFBIG: (
        "The file may not grow any larger",
        "raise the file size limit (ulimit -f) or choose another disk",
    ),
    errno.EROFS: ("The file system is read-only", "choose a folder on another disk"),
    errno.EACCES: (
        "Writing here is not allowed",
        "choose another folder, or change its permissions",
    ),
    errno.EPERM: (
        "Writing here is not allowed",
        "choose another folder, or change its permissions",
    ),
    errno.ENOENT: ("The folder does not exist, or no file can be created in it", "choose another folder"),
    errno.ENOTDIR: (
        "A file is where a folder is needed",
        "choose another folder, or move that file away",
    ),
    errno.EEXIST: (
        "A file is where a folder is needed",
        "choose another folder, or move that file away",
    ),
    errno.EISDIR: (
        "A folder is where a file is needed",
        "choose another name, or move that folder away",
    ),
}


# Errors of writing, whichever file they name; the others may concern a file that was only read.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


@contextmanager
def disk_errors(path: Path, kept: str = UNTOUCHED, codes: Collection[int] = _PROBLEMS) -> Iterator[None]:
    """Convert disk errors to `UserError`s; other errors pass through.

    MLX reports a full disk as a `RuntimeError` that begins with "[write]"; it counts as a disk error.

    Args:
        path: The file or folder that the user knows, not the temporary one.
        kept: A sentence, without its full stop, about what is safe: "120 lines are kept".
        codes: The `errno`s to convert.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in codes or error.errno not in _PROBLEMS:
            raise
        what, fix = _PROBLEMS[error.errno]
        raise UserError(f"{what}. {kept}.", where=str(path), fix=fix) from error
    except RuntimeError as error:
        if not str(error).startswith("[write]"):
            raise
        what, fix = _PROBLEMS[errno.ENOSPC]
        raise UserError(f"{what}, or the file may not grow any larger. {kept}.", where=str(path), fix=fix) from error


def json_if_any(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty if the file is missing, unreadable or not an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def own_cache() -> Path:
    """The folder for what is computed once and kept, in Hugging Face's cache; it need not exist."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "mlx-suite"


def write_atomically(path: Path | str, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) to `path` atomically; missing folders are created.

    Raises UserError if the disk is full or read-only, or permissions are missing.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def staged_folder(final: Path | str) -> Iterator[Path]:
    """A temporary folder that replaces `final` when the block ends without an error.

    After an error or a kill, `final` is unchanged; the next run removes what a killed one left.

        with staged_folder("checkpoints/last") as folder:
            save_weights(folder / "model.safetensors")
    """
    final = Path(final)
    partial = final.with_name(f".{final.name}.partial")
    with disk_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        partial.mkdir()
    try:
        with disk_errors(final, codes=_NO_ROOM):
            yield partial
        with disk_errors(final):
            _sync_tree(partial)
            replace_folder(partial, final)
    except BaseException:
        _remove(partial)
        raise


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_folder(new: Path, final: Path) -> None:
    """Rename folder `new` to `final`; an existing `final` is swapped out atomically, then deleted."""
    if not os.path.lexists(final):
        os.rename(new, final)
    elif _exchange(new, final):
        _remove(new)
    else:
        # Without an atomic swap, `final` is missing for a moment; the old folder remains under a name that users can
        # find.
        old = final.with_name(f".{final.name}.old")
        _remove(old)
        os.rename(final, old)
        os.rename(new, final)
        _remove(old)
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems refuse this, but the rename has been done.
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            handle = os.open(os.path.join(place, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(place))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names atomically; False if the system does not support it."""
    libc = ctypes.CDLL(None, use_errno=True)
    swap = getattr(libc, "renameat2" if sys.platform.startswith("linux") else "renameatx_np", None)
    if swap is None:
        return False
    return bool(swap(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_EXCHANGE)) == 0)
