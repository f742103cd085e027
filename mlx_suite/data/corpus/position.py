"""How far a corpus has been tokenized, and the files that are written up to there."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_suite.data.corpus.token_file import ENDS, TOKENS, Ends, Ids
from mlx_suite.runtime.files import disk_errors
from mlx_suite.runtime.journal import Journal


@dataclass(kw_only=True)
class Position:
    """How far a corpus has been tokenized. It counts while texts are read; everyone else gets a copy."""

    file: int = 0
    """Files read to their end."""
    items: int = 0
    """Texts and problems read of the next file."""
    held: str = ""
    inside: bool = False
    """State of the PieceCutter."""
    documents: int = 0
    tokens: int = 0
    text_bytes: int = 0
    blank: int = 0
    """Texts skipped because they are blank."""
    problems: int = 0
    """Texts skipped because they could not be read."""


class TokenOutput:
    """The files of tokens and document ends, opened for appending at a position."""

    def __init__(self, folder: Path, reached: Position, width: int) -> None:
        self._folder = folder
        sizes = {TOKENS: reached.tokens * width, ENDS: reached.documents * 8}
        with self._disk_errors():
            self._handles = {name: os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666) for name in sizes}
            for name, handle in self._handles.items():
                os.ftruncate(handle, sizes[name])
                os.lseek(handle, 0, os.SEEK_END)

    def append(self, tokens: Ids, ends: Ends) -> None:
        """Write tokens, and where documents end."""
        with self._disk_errors():
            for name, array in ((TOKENS, tokens), (ENDS, ends)):
                left = memoryview(array.tobytes())
                while left:
                    left = left[os.write(self._handles[name], left) :]

    def sync(self) -> None:
        """Flush everything to disk."""
        with self._disk_errors():
            for handle in self._handles.values():
                os.fsync(handle)

    def _disk_errors(self) -> Any:
        return disk_errors(self._folder, kept="What was tokenized before is kept, and the same command resumes")

    def __enter__(self) -> "TokenOutput":
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles.values():
            os.close(handle)


def last_position(journal: Journal, folder: Path, width: int) -> Position:
    """The last recorded position that the files reach: a power cut may have shortened them."""
    sizes = {name: (folder / name).stat().st_size if (folder / name).exists() else 0 for name in (TOKENS, ENDS)}
    last = Position()
    for record in journal.records():
        position = Position(**record)
        if position.tokens * width <= sizes[TOKENS] and position.documents * 8 <= sizes[ENDS]:
            last = position
    return last
