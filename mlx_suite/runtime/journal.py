"""An append-only log of JSON objects, one per line, that survives kill -9.

Each line is one `write` to a file opened for appending, so a killed process leaves at most one torn line, at the end;
opening the journal again truncates it. Any other fault in the file is not ours and is reported with its line number
instead of being repaired.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .errors import UserError
from .files import disk_errors
from .lock import take_lock

T = TypeVar("T")


class Journal:
    """A journal opened for appending, locked by this process; created if missing.

    Args:
        path: The `.jsonl` file.
        sync_seconds: At most this many seconds of lines are lost in a power cut (a kill loses none). 0 flushes every
            line to disk, which takes milliseconds each.

    Raises UserError if another process has it open, or a line is not a JSON object (with `file:line`).
    """

    def __init__(self, path: Path | str, *, sync_seconds: float = 1.0) -> None:
        self.path = Path(path)
        self.sync_seconds = sync_seconds
        self.count = 0
        """Records in the file."""
        self._synced = time.monotonic()
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            take_lock(self._handle, self.path)
            self._repair()
        except BaseException:
            os.close(self._handle)
            raise

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one record as one line.

        Raises:
            UserError: The disk is full; earlier lines are kept and the file ends with the last of them.
            ValueError: The record contains NaN or inf, which JSON does not have.
        """
        line = _line(record)
        size = os.fstat(self._handle).st_size
        with disk_errors(self.path, kept=self._kept()):
            try:
                written = os.write(self._handle, line)
                while written < len(line):  # a nearly full disk may take only a part
                    written += os.write(self._handle, line[written:])
            except OSError:
                os.ftruncate(self._handle, size)
                raise
            self.count += 1
            if time.monotonic() - self._synced >= self.sync_seconds:
                self.sync()

    def records(self) -> Iterator[dict[str, Any]]:
        """All records, read from the file."""
        return read_journal(self.path)

    def sync(self) -> None:
        """Flush all lines to disk."""
        os.fsync(self._handle)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Flush, unlock and close the journal."""
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _kept(self) -> str:
        return "1 finished line is kept" if self.count == 1 else f"{self.count} finished lines are kept"

    def _repair(self) -> None:
        """Count the records, refuse corrupt lines, and repair the end of the file."""
        end = 0
        for line in _lines(self.path):
            if line.complete:
                end += line.length
                self.count += line.record is not None
            elif line.record is not None:
                os.write(self._handle, b"\n")  # only the line end is missing
                self.count += 1
            else:
                os.ftruncate(self._handle, end)


def read_journal(path: Path | str) -> Iterator[dict[str, Any]]:
    """Records of a journal that another process may be writing; it is neither locked nor repaired.

    A torn last line is skipped. Raises UserError for a line that is not a JSON object.
    """
    for line in _lines(Path(path)):
        if line.record is not None:
            yield line.record


class JournalReader:
    """Reads the records that another process appends to a journal, each of them once. The file need not exist yet.

    Every call opens the file again, because a network file system shows the writes of other machines only at open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end = 0
        """Bytes read so far."""
        self._number = 0
        """Lines read so far."""

    def new_records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number, from 1, and the record of each line added since the last call.

        A last line without its end is still being written; a later call yields it. Raises UserError for a line that is
        not a JSON object.
        """
        for line in _lines(self.path, start=self._end, before=self._number) if self.path.exists() else ():
            if not line.complete:
                return
            self._end += line.length
            self._number = line.number
            if line.record is not None:
                yield line.number, line.record


def read_lines(path: Path | str, read: Callable[[dict[str, Any]], T], bad: list[int] | None = None) -> Iterator[T]:
    """Yield `read(record)` for each record of a journal; a torn last line is skipped.

    Args:
        read: Raises KeyError, TypeError, ValueError or AttributeError for a record it does not recognise.
        bad: If given, unreadable lines are skipped and their numbers appended to it.

    Raises UserError, with `file:line`, for an unreadable line if `bad` is None.
    """
    for line in _lines(Path(path), bad):
        if line.record is None:
            continue
        try:
            result = read(line.record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if bad is not None:
                bad.append(line.number)
                continue
            raise UserError(
                f"Line {line.number} was not written by this program",
                where=f"{path}:{line.number}",
                fix="delete that line; its content is generated again",
            ) from error
        yield result


class _Line:
    """A line of the file and its record, None for a blank or torn line."""

    def __init__(self, text: bytes, path: Path, number: int) -> None:
        self.number = number
        self.length = len(text)
        self.complete = text.endswith(b"\n")
        self.record: dict[str, Any] | None = None
        if not text.strip() or (not self.complete and not text.strip(b"\0")):
            return  # blank, or the zeros that a power cut can leave at the end of a file
        try:
            record = json.loads(text.decode().rstrip("\n"))
            problem = "" if isinstance(record, dict) else f"it is a {type(record).__name__}"
        except (ValueError, RecursionError) as error:
            if not self.complete and text.startswith(b"{"):
                return  # torn
            record, problem = None, str(error)
        if problem:
            raise UserError(
                f"Line {number} is not a JSON object: {problem}",
                where=f"{path}:{number}",
                fix="correct or delete that line; the lines around it can stay",
            )
        self.record = record


def _lines(path: Path, bad: list[int] | None = None, start: int = 0, before: int = 0) -> Iterator[_Line]:
    """Lines from the byte `start`, before which there are `before` lines."""
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise UserError("The file does not exist", where=str(path), fix="check the path") from error
    with disk_errors(path), file:
        file.seek(start)
        for number, text in enumerate(file, start=before + 1):
            try:
                line = _Line(text, path, number)
            except UserError:
                if bad is None:
                    raise
                bad.append(number)
                continue
            yield line


def _line(record: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:
        # A lone surrogate, from text cut within a character, needs an escape in JSON.
        return json.dumps(record, allow_nan=False).encode() + b"\n"
