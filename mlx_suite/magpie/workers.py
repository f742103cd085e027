"""Workers that fill one run folder together under `mlx.launch`.

The worker of rank r in a world of size W generates the rows with `index % W == r`. Rank 0 owns the folder: it logs the
drafts of all workers in drafts.jsonl, decides them in order and writes the decisions, as a single process does. The
others append their drafts to drafts-r.jsonl, which rank 0 reads, and they read what rank 0 writes: decisions steer
their rows, end them early, and tell them when to stop. A worker that is behind costs time and changes no row, because
rank 0 itself generates a row again whose draft lacks something.

MLX's group carries a few numbers before the first row; after that no worker waits for a message that might never come.
Each holds a lock, on the folder or on its own file, which is released however it ends. A worker that detects that
another is gone starts no more rows, finishes those in flight, and ends, because `mlx.launch` stops all workers when one
has failed. The same command resumes, with any number of workers.

Opening a file must show what other machines have written and flushed. Where their locks are not visible, a lost worker
is detected only after `ProcessGroup.patience` seconds of silence.
"""

import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx

from mlx_suite.curation.dataset import DRAFTS_FILE, REJECTED_FILE
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.magpie.records import DRAFTS_GLOB, Draft, draft_at, drafts_name
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import sync_folder
from mlx_suite.runtime.journal import Journal, JournalReader, read_journal
from mlx_suite.runtime.lock import LOCK_NAME, is_held
from mlx_suite.training.process_group import ProcessGroup, lost_process

POLL_SECONDS = 0.2
"""Seconds between two polls of the others' files."""
FORMER_BOARD = ".shards.json"
"""File of a run by versions in which rank 0 did not log the other workers' drafts."""
Result = TypeVar("Result")


class ElsewhereError(Exception):
    """The run has ended because of another worker, which reports why."""


class Workers:
    """This worker and the others that fill `folder`. With one process every method is a no-op."""

    def __init__(self, group: ProcessGroup, folder: Path) -> None:
        self.group, self.folder = group, folder
        self.others = tuple(rank for rank in range(group.size) if rank != group.rank)
        self.lost: tuple[int, ...] = ()
        """Ranks of workers that are gone."""
        names = map(drafts_name, self.others) if group.is_rank_zero else (DRAFTS_FILE,)
        self._drafts = [JournalReader(folder / name) for name in names]
        self._decisions = [JournalReader(folder / name) for name in (ACCEPTED_FILE, REJECTED_FILE)]
        self._locks: dict[int, Path] = {}
        self._polled = self._heard = time.monotonic()
        self._is_ending = False

    def owns(self, index: int) -> bool:
        """Whether the row of this number is generated here."""
        return index % self.group.size == self.group.rank

    # ---- before the first row

    def together(self, act: Callable[[], Result]) -> Result:
        """Call `act` in every worker; returns its result once it has succeeded in all of them.

        If it fails, the lowest rank in which it failed raises its UserError, and all others raise ElsewhereError. So an
        error in all workers is reported once.
        """
        problem = None
        try:
            result = act()
        except UserError as error:
            problem = error
        failed = self._gather(int(problem is not None))
        if problem is not None and failed.index(1) == self.group.rank:
            raise problem
        if any(failed):
            raise ElsewhereError
        return result

    def check_same(self, *facts: object) -> None:
        """Raise UserError if another worker's facts differ: it would generate different rows."""
        sums = self._gather(zlib.crc32(repr(facts).encode()) >> 1)

        def check() -> None:
            different = tuple(rank for rank, each in enumerate(sums) if each != sums[0])
            if different:
                raise UserError(
                    f"{_named(different)} would generate different rows from process 0",
                    where=str(self.folder),
                    fix="use the same weights, settings and version of mlx-suite on every machine",
                )

        self.together(check)

    def broadcast(self, number: int) -> int:
        """Broadcast a non-negative number from rank 0."""
        return self._gather(number)[0]

    def _gather(self, number: int) -> list[int]:
        """All-gather one number of up to 31 bits per worker."""
        if not self.others:
            return [number]
        own = [number if rank == self.group.rank else 0 for rank in range(self.group.size)]
        with lost_process(self.folder, lambda: None):
            numbers: Any = self.group.all_sum(mx.array(own, mx.int32)).tolist()
        return [int(each) for each in numbers]

    # ---- while rows are generated

    def new_drafts(self) -> Iterator[Draft]:
        """Yield what rank 0 has logged since the last call; in rank 0, what the others have finished."""
        for reader in self._drafts if self.others else ():
            for number, line in reader.new_records():
                self._heard = time.monotonic()
                yield draft_at(reader.path, number, line)

    def new_decisions(self) -> Iterator[tuple[int, str | None]]:
        """Yield row number and reason of each decision that rank 0 has written since the last call."""
        for reader in self._decisions:
            for _, record in reader.new_records():
                self._heard = time.monotonic()
                yield record["index"], record.get("rejection")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Detect in the block that a worker is gone. Every worker must hold its lock when it enters.

        `mlx.launch` then sends SIGTERM to all others; rows in flight may finish all the same. Any other SIGTERM, or a
        second one, acts like Ctrl-C.
        """

        def terminated(number: int, frame: object) -> None:
            self._watch()
            if self._is_ending or not self.lost:
                raise KeyboardInterrupt
            self._is_ending = True

        if not self.others:
            yield
            return
        self.together(lambda: None)
        paths = {rank: self.folder / (drafts_name(rank) if rank else LOCK_NAME) for rank in self.others}
        self._locks = {rank: path for rank, path in paths.items() if is_held(path)}
        self._heard = time.monotonic()
        is_main = threading.current_thread() is threading.main_thread()  # only it can catch signals
        before = signal.signal(signal.SIGTERM, terminated) if is_main else None
        try:
            yield
        finally:
            if is_main:
                signal.signal(signal.SIGTERM, before)

    def is_due(self) -> bool:
        """Whether it is time to read the others' files; their locks are checked as well."""
        if not self.others or time.monotonic() - self._polled < POLL_SECONDS:
            return False
        self._watch()
        self._polled = time.monotonic()
        return True

    def wait(self) -> None:
        """Wait for the others while there is nothing to generate here.

        Raises UserError if another worker is gone or has been silent for too long; ElsewhereError if another worker
        reports that.
        """
        if not self.others:
            return
        if 0 in self.lost and (self.group.rank > 1 or not (self.folder / LOCK_NAME).read_text()):
            raise ElsewhereError  # rank 1 reports it; if rank 0 ended by itself, rank 0 has reported why
        if 0 in self.lost or (self.lost and self.group.is_rank_zero):
            raise UserError(
                f"{_named(self.lost)} of this run's {self.group.size} {'is' if len(self.lost) == 1 else 'are'} gone",
                where=str(self.folder),
                fix="look for its own error message, or check its machine. The same command resumes with any number of "
                "processes",
                details=["every finished row is kept"],
            )
        time.sleep(POLL_SECONDS)
        self._watch()
        if time.monotonic() - self._heard > self.group.patience:
            raise UserError(
                f"The other processes of this run have been silent for {self.group.patience:.0f} seconds",
                where=str(self.folder),
                fix="check whether their machines are running, stop what is left of the run, and repeat the command",
            )

    def _watch(self) -> None:
        free = tuple(rank for rank, path in self._locks.items() if is_held(path) is False)
        self.lost = (0,) if 0 in (*free, *self.lost) else free  # without rank 0 all others end as well


def absorb_drafts(folder: Path) -> None:
    """Move the drafts that other workers of an earlier run have left into drafts.jsonl, where they do not stand yet.

    This process must hold the folder's lock. A decided row keeps the draft that it was decided by. A kill in between is
    harmless. Raises UserError for a broken line, a file that another worker still writes to, or a full disk.
    """
    paths = sorted(path for path in folder.glob(DRAFTS_GLOB) if path.name != DRAFTS_FILE)
    board = folder / FORMER_BOARD
    if paths:
        with Journal(folder / DRAFTS_FILE) as log:
            logged = {line.get("sum"): line.get("index") for line in log.records()}
            rows = [folder / name for name in (ACCEPTED_FILE, REJECTED_FILE) if (folder / name).exists()]
            decided = {record.get("index") for path in rows for record in read_journal(path)}
            final = set() if board.exists() else decided.intersection(logged.values())
            for path in paths:
                with Journal(path) as journal:
                    for number, line in enumerate(journal.records(), start=1):
                        if draft_at(path, number, line).index not in final and line["sum"] not in logged:
                            log.append(line)
                    log.sync()
                    path.unlink()
        sync_folder(folder)
    board.unlink(missing_ok=True)


def _named(ranks: tuple[int, ...]) -> str:
    """Processes as `mlx.launch` numbers them."""
    *most, last = map(str, ranks)
    return f"Processes {', '.join(most)} and {last}" if most else f"Process {last}"
