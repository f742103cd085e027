"""Follow a journal that another process is writing, one complete line at a time.

Every read reopens the file, because a network file system shows the writes of other machines only at open.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlx_suite.magpie.records import Draft, draft_at
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import disk_errors


class Tail:
    """Reads each line of a journal once. The file need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        """Lines read so far."""
        self._end = 0
        """Bytes read so far."""

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the 1-based number and the JSON object of each line added since the last call.

        A last line without a newline is still being written; a later call yields it. Raises UserError for any
        other line that is not a JSON object.
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
                    fix="delete that line and start again: the file may have been edited during the run",
                )
            yield self.number, record

    def drafts(self) -> Iterator[Draft]:
        """Yield the new lines as drafts."""
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
