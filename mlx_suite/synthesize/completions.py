"""Completions as they are generated, kept in a journal: a kill loses none, and a resumed run does not write them again.

They stand in the order of repeats and shards, and within a shard in the order in which they ended, so that a reader
holds those of one shard at a time.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from mlx_suite.runtime.journal import read_lines

COMPLETIONS_FILE = "completions.jsonl"
NO_ROOM = "context"
"""Reason of an empty completion: the prompt did not fit into the context."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What the model wrote from a text in one form."""

    repeat: int
    """0 for the first time that something is written from a text."""
    shard: int
    form: str
    source: str
    """Key of the text."""
    text: str
    reason: str
    """Why it ended: `stop`, `limit`, or `context`."""
    shots: int
    """Examples before the text in the prompt."""
    read: int
    """Tokens of the prompt."""
    written: int
    """Sampled tokens."""
    seconds: float
    """Time since the previous completion of the session, so that the sum is the time spent."""

    def record(self) -> dict[str, Any]:
        return asdict(self)


Completions = dict[tuple[str, str], Completion]
"""By form and key of the text."""


class CompletionReader:
    """Reads a journal shard by shard, in step with the corpus.

    Args:
        count: Read only this many, in a journal that is being appended to.
    """

    def __init__(self, path: Path, count: int | None = None) -> None:
        self._groups = groupby(islice(_read(path), count), key=lambda each: (each.repeat, each.shard))
        self._next: tuple[tuple[int, int], Completions] | None = None
        self._advance()

    def take(self, repeat: int, shard: int) -> Completions:
        """The completions of a shard; to be called in order."""
        if self._next is None or self._next[0] != (repeat, shard):
            return {}
        found = self._next[1]
        self._advance()
        return found

    def _advance(self) -> None:
        group = next(self._groups, None)
        self._next = None if group is None else (group[0], {(each.form, each.source): each for each in group[1]})


def _read(path: Path) -> Iterator[Completion]:
    names = [field.name for field in fields(Completion)]
    return read_lines(path, lambda record: Completion(**{name: record[name] for name in names}))
