"""Tokenize a corpus once into a folder that `TokenFile` opens.

Every few megabytes the files are flushed and the position in the source is recorded, so a killed run resumes there
and writes the same bytes as an uninterrupted one. Texts are read, tokenized and written a batch at a time: memory does
not depend on the size of the corpus.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mlx_suite.data.corpus.documents import FIELD, corpus_files, read_corpus_file
from mlx_suite.data.corpus.pieces import LONG, Piece, PieceCutter
from mlx_suite.data.corpus.source_state import source_changes, source_state
from mlx_suite.data.corpus.token_file import ENDS, KIND, MANIFEST, TOKENS, Ends, Ids, TokenFile, id_type
from mlx_suite.data.read.records import Problem, refusal
from mlx_suite.data.read.sources import DataFile
from mlx_suite.runtime.errors import SHOWN, UserError
from mlx_suite.runtime.files import disk_errors, sha256_of, write_atomically
from mlx_suite.runtime.journal import Journal
from mlx_suite.runtime.lock import folder_lock
from mlx_suite.runtime.resume import differences, facts_text, stored_facts
from mlx_suite.text import Tokenizer
from mlx_suite.text.backend import TokenIds

STARTED, PROGRESS = "started.json", "progress.jsonl"
"""Files of an unfinished folder: what the tokens are made from, and the positions reached."""
BATCH = 1 << 20
"""Characters tokenized at a time."""
CHECKPOINT = 1 << 24
"""Text bytes between two positions in PROGRESS."""
FORMAT = 1

Tell = Callable[[int, int], None]


def tokenize_corpus(
    source: str | Path,
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    field: str = FIELD,
    separator: str | None = None,
    workers: int | None = None,
    skip_bad: bool = False,
    tell: Tell = lambda documents, text_bytes: None,
) -> TokenFile:
    """Tokenize `source` into `folder`, resuming what was begun and reusing what is finished.

    Args:
        source, field, separator: As for `read_corpus`.
        workers: Batches tokenized at the same time, each on all cores; 2 if None. The tokens do not depend on it.
        skip_bad: Whether texts that cannot be read are skipped and counted.
        tell: Called with the documents and the bytes of text written so far.

    Raises UserError if texts cannot be read, there are none, the folder was made with another tokenizer, field or
    separator, the source changed since or meanwhile, the disk is full, or another run uses the folder.
    """
    folder = Path(folder)
    if tokenizer.eos_id is None:
        raise UserError(
            "The tokenizer names no EOS token, so the end of a document cannot be marked",
            where=tokenizer.origin,
            fix='add "eos_token" to its tokenizer_config.json',
        )
    files = corpus_files(source)
    settings = {"tokenizer": tokenizer.digest, "field": field, "separator": separator, "format": FORMAT}
    with folder_lock(folder):
        finished = _finished(folder, files, settings)
        if finished is not None:
            return finished
        state = _start(folder, files, settings)
        run = _Run(files, tokenizer, folder, field, separator, skip_bad, tell)
        reached = run.write(workers or 2)
        _check_unchanged(folder, files, state)
        if not reached.documents:
            raise UserError(
                f"There is no text in the corpus: {reached.blank:,} of its texts are blank, {reached.problems:,} bad",
                where=str(source),
                fix="name another file, or another field",
            )
        _finish(folder, reached, Path(source).name, {**settings, "source": state}, id_type(tokenizer.vocab_size))
    return TokenFile.open(folder, tokenizer)


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


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Pieces to tokenize together."""

    pieces: tuple[Piece, ...]
    after: Position
    """The position after them, except for the tokens, which are not known yet."""


class _Run:
    """One call of `tokenize_corpus` on an unfinished folder."""

    def __init__(
        self,
        files: Sequence[DataFile],
        tokenizer: Tokenizer,
        folder: Path,
        field: str,
        separator: str | None,
        skip_bad: bool,
        tell: Tell,
    ) -> None:
        self.files, self.tokenizer, self.folder = files, tokenizer, folder
        self.field, self.separator, self.skip_bad, self.tell = field, separator, skip_bad, tell
        self.dtype = np.dtype(id_type(tokenizer.vocab_size))

    def write(self, workers: int) -> Position:
        """Write the rest of the tokens and the index; returns the last position."""
        with Journal(self.folder / PROGRESS) as journal:
            reached = _last_position(journal, self.folder, self.dtype.itemsize)
            with _Output(self.folder, reached, self.dtype.itemsize) as output:
                saved = reached.text_bytes
                for batch, tokens, ends in self._encoded(reached, workers):
                    output.append(tokens, ends + np.uint64(reached.tokens))
                    reached = replace(batch.after, tokens=reached.tokens + len(tokens))
                    self.tell(reached.documents, reached.text_bytes)
                    if reached.text_bytes - saved >= CHECKPOINT and self._may_resume(reached):
                        saved = reached.text_bytes
                        output.sync()
                        journal.append(asdict(reached))
                output.sync()
                if self._may_resume(reached):
                    journal.append(asdict(reached))
        return reached

    def _may_resume(self, reached: Position) -> bool:
        """Whether a later run may go on from here: not past problems that this one is going to report."""
        return len(reached.held) <= LONG and (self.skip_bad or not reached.problems)

    def _encoded(self, start: Position, workers: int) -> Iterator[tuple[_Batch, Ids, Ends]]:
        """The batches in order with their tokens and document ends, a few of them being tokenized ahead."""
        waiting: deque[tuple[_Batch, Future[tuple[Ids, Ends]]]] = deque()
        with ThreadPoolExecutor(workers) as pool:
            try:
                for batch in self._batches(start):
                    waiting.append((batch, pool.submit(self._encode, batch.pieces)))
                    if len(waiting) > workers:
                        done, tokens = waiting.popleft()
                        yield done, *tokens.result()
                while waiting:
                    done, tokens = waiting.popleft()
                    yield done, *tokens.result()
            finally:
                for _, tokens in waiting:
                    tokens.cancel()

    def _encode(self, pieces: Sequence[Piece]) -> tuple[Ids, Ends]:
        """The tokens of pieces, with BOS and EOS, and where documents end among them."""
        tokenizer = self.tokenizer
        ids: dict[int, TokenIds] = {}
        for first in (True, False):
            chosen = [number for number, piece in enumerate(pieces) if piece.first == first]
            encoded = tokenizer.encode_batch([pieces[number].text for number in chosen], at_start=first)
            ids.update(zip(chosen, encoded, strict=True))
        bos, eos, nothing = (
            np.array(marks, np.uint32) for marks in (tokenizer.encode_prompt(""), [tokenizer.eos_id], [])
        )
        parts = [nothing]
        for number, piece in enumerate(pieces):
            parts += [bos if piece.first else nothing, ids[number], eos if piece.last else nothing]
        ends = np.array([len(part) for part in parts[1:]], "<u8").reshape(-1, 3).sum(axis=1).cumsum()
        return np.concatenate(parts).astype(self.dtype), ends[np.array([piece.last for piece in pieces], bool)]

    def _batches(self, start: Position) -> Iterator[_Batch]:
        """The pieces from `start` on, in batches. Raises UserError for texts that cannot be read."""
        cutter = PieceCutter(self.tokenizer, start.held, start.inside)
        pieces: list[Piece] = []
        size, now = 0, replace(start)
        bad: list[Problem] = []

        def take(found: Iterable[Piece]) -> None:
            nonlocal size
            for piece in found:
                pieces.append(piece)
                size += len(piece.text)
                now.documents += piece.last

        for number in range(start.file, len(self.files)):
            for item in islice(self._items(number), now.items, None):
                now.items += 1
                if isinstance(item, Problem):
                    take(cutter.end())
                    bad.append(item)
                    now.problems += 1
                    if not self.skip_bad and len(bad) >= SHOWN:
                        raise refusal(bad, self.files[number].name)
                elif not (cutter.is_open or item.unfinished or item.text.strip()):
                    now.blank += 1
                else:
                    take(cutter.feed(item))
                    now.text_bytes += len(item.text.encode(errors="replace"))
                if size >= BATCH:
                    yield self._batch(pieces, now, cutter)
                    pieces, size = [], 0
            take(cutter.end())
            if bad and not self.skip_bad:
                raise refusal(bad, self.files[number].name)
            now.file, now.items = number + 1, 0
        yield self._batch(pieces, now, cutter)

    def _items(self, number: int) -> Iterator[Any]:
        return read_corpus_file(self.files[number], field=self.field, separator=self.separator)

    def _batch(self, pieces: Sequence[Piece], now: Position, cutter: PieceCutter) -> _Batch:
        return _Batch(pieces=tuple(pieces), after=replace(now, held=cutter.held, inside=cutter.inside))


class _Output:
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
        with self._disk_errors():
            for name, array in ((TOKENS, tokens), (ENDS, ends)):
                left = memoryview(array.tobytes())
                while left:
                    left = left[os.write(self._handles[name], left) :]

    def sync(self) -> None:
        with self._disk_errors():
            for handle in self._handles.values():
                os.fsync(handle)

    def _disk_errors(self) -> Any:
        return disk_errors(self._folder, kept="What was tokenized before is kept, and the same command resumes")

    def __enter__(self) -> "_Output":
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles.values():
            os.close(handle)


def _last_position(journal: Journal, folder: Path, width: int) -> Position:
    """The last recorded position that the files reach: a power cut may have shortened them."""
    sizes = {name: (folder / name).stat().st_size if (folder / name).exists() else 0 for name in (TOKENS, ENDS)}
    last = Position()
    for record in journal.records():
        position = Position(**record)
        if position.tokens * width <= sizes[TOKENS] and position.documents * 8 <= sizes[ENDS]:
            last = position
    return last


def _finished(folder: Path, files: Sequence[DataFile], settings: dict[str, Any]) -> TokenFile | None:
    """The finished tokens in a folder; None if there are none, or their files are damaged and must be made again."""
    if not (folder / MANIFEST).is_file():
        return None
    manifest = stored_facts(folder / MANIFEST, KIND)
    made_from = manifest["made_from"]
    _refuse_other(folder, made_from, settings)
    changes = source_changes(made_from["source"], source_state(files, made_from["source"]))
    if changes:
        raise UserError(
            "The corpus has changed since it was tokenized",
            where=str(folder),
            fix="restore it, choose another folder, or delete this one to tokenize the corpus again",
            details=changes,
        )
    opened = TokenFile(folder=folder, manifest=manifest)
    if not opened.damage():
        return opened
    (folder / MANIFEST).unlink()
    return None


def _start(folder: Path, files: Sequence[DataFile], settings: dict[str, Any]) -> dict[str, Any]:
    """Record what the tokens are made from, or check that it is what an interrupted run began with."""
    started = folder / STARTED
    before = stored_facts(started, KIND) if started.is_file() else None
    if before is not None:
        _refuse_other(folder, before, settings)
    state = source_state(files, before and before["source"])
    if before is None or source_changes(before["source"], state):
        # Of an unfinished folder with another content nothing can be used.
        (folder / PROGRESS).unlink(missing_ok=True)
        write_atomically(started, facts_text(KIND, {**settings, "source": state}))
    return state


def _refuse_other(folder: Path, before: dict[str, Any], settings: dict[str, Any]) -> None:
    changes = differences(before, settings)
    if changes:
        raise UserError(
            "The folder holds tokens that were made with other settings",
            where=str(folder),
            fix="use these settings, choose another folder, or delete this one to tokenize the corpus again",
            details=changes,
        )


def _check_unchanged(folder: Path, files: Sequence[DataFile], state: dict[str, Any]) -> None:
    """Raise UserError if the source changed while it was read: nobody knows which of its contents was."""
    changes = source_changes(state, source_state(files, state))
    if changes:
        (folder / PROGRESS).unlink(missing_ok=True)
        raise UserError(
            "The corpus changed while it was tokenized",
            where=str(folder),
            fix="run the same command again when nothing writes to the corpus",
            details=changes,
        )


def _finish(folder: Path, reached: Position, name: str, made_from: dict[str, Any], dtype: str) -> None:
    """Write the manifest, which marks the folder as finished."""
    counts = {key: getattr(reached, key) for key in ("documents", "tokens", "text_bytes", "blank", "problems")}
    sums = {file: sha256_of(folder / file) for file in (TOKENS, ENDS)}
    fingerprint = hashlib.sha256(json.dumps([dtype, sums]).encode()).hexdigest()[:16]
    facts = {"name": name, **counts, "dtype": dtype, "sha256": sums, "fingerprint": fingerprint, "made_from": made_from}
    write_atomically(folder / MANIFEST, facts_text(KIND, facts))
    for leftover in (STARTED, PROGRESS):
        (folder / leftover).unlink(missing_ok=True)
