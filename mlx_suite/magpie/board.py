"""`.shards.json`: what the first process of a run tells the others.

    {"run": 1804289383,     number of the run: what another one has left says nothing
     "ended": "complete",   or "stopped"; null while rows are wanted
     "again": [12, 1]}      a row to make again, since its draft lacks something, and how often that was found; or null

Only the first writes it, whole or not at all.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlx_suite.runtime.files import write_atomically

BOARD_FILE = ".shards.json"
Ended = Literal["complete", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Board:
    """What stands on it."""

    run: int
    ended: Ended | None = None
    again: tuple[int, int] | None = None

    def write(self, folder: Path) -> None:
        """Raises UserError where the disk takes nothing more."""
        content = {"run": self.run, "ended": self.ended, "again": self.again}
        write_atomically(folder / BOARD_FILE, json.dumps(content) + "\n")


def read_board(folder: Path, run: int) -> Board:
    """The board of a run; an empty one where its own is not there yet."""
    try:
        content = json.loads((folder / BOARD_FILE).read_bytes())
        if content["run"] != run:
            return Board(run=run)
        again = content["again"]
        ended: Ended | None = content["ended"]
        return Board(run=run, ended=ended, again=None if again is None else (int(again[0]), int(again[1])))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return Board(run=run)
