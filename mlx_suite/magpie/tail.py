"""Journals that other processes are writing: their new lines, as far as they are whole.

The file is opened anew at every look: a network file system shows what others have written when a file is opened.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlx_suite.magpie.draft import Draft
from mlx_suite.magpie.drafts import draft_at
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import disk_errors


class Tail:
    """The lines of a journal, each of them once. There may be no file yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        """Lines that have been read."""
        self._end = 0
        """Bytes that have been read."""

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The number, from 1, and the object of each line that has come since the last look.

        A last line without its end is one that is being written: it comes with a later look. Raises UserError for any
        other that is no object of JSON.
        """
        for line in self._lines():
            self.number += 1
            self._end += len(line)
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise UserError(
                    f"Line {self.number} is not a JSON object",
                    where=f"{self.path}:{self.number}",
                    fix="was the file edited while a run was on it? Take that line out and start again",
                )
            yield self.number, record

    def drafts(self) -> Iterator[Draft]:
        """The same lines as drafts."""
        for number, record in self.records():
            yield draft_at(self.path, number, record)

    def _lines(self) -> Iterator[bytes]:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file, disk_errors(self.path):
            file.seek(self._end)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield line
