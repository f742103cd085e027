"""Workers that fill one run folder together: which rows each generates, and how each detects that another is gone.

Under `mlx.launch`, the worker of rank r in a world of size W generates the rows with `index % W == r` and appends them
to its own draft file. Rank 0 decides all rows in order, as it does alone; the others read its decisions
(`followers`). All communication is through files in the shared folder. MLX's group provides rank and world size, and
carries a few numbers before the first row; after that no worker waits for a message that might never come.

Each worker holds a lock on its own file, which is released however it ends. A worker that detects that another is
gone starts no more rows, finishes those in flight, and ends: `mlx.launch` stops all workers when one has failed, so
none could take over the lost one's rows. The same command resumes, with any number of workers.

Assumptions about the file system: opening a file eventually shows what others have written and flushed; locks held on
one machine are visible on the others. If locks are not visible, or a machine loses power and its lock stays, a lost
worker is detected only after `ProcessGroup.patience` seconds of silence.

Rank 0 reports to the others in `.shards.json`, which is written atomically:

    {"run": 1804289383,     id of the run; a board left by another run is ignored
     "ended": "complete",   or "stopped"; null while rows are missing
     "again": [12, 1]}      a row to generate again, because its draft lacks something, and a counter; or null
"""

import json
import secrets
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import mlx.core as mx

from mlx_suite.engine import Request
from mlx_suite.magpie.records import drafts_name
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically
from mlx_suite.runtime.lock import LOCK_NAME, is_held
from mlx_suite.training.process_group import ProcessGroup, lost_process

BOARD_FILE = ".shards.json"
POLL_SECONDS = 0.2
"""Seconds between two polls of the others' files."""
MAX_LEAD = 4
"""Batches that a worker may be ahead of the first undecided row; enough for rows of any length."""
Ended = Literal["complete", "stopped"]
Result = TypeVar("Result")


class ElsewhereError(Exception):
    """The run has ended because of another worker, which reports why."""


class Over(Exception):
    """The folder is complete; rows still in flight are not needed."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """Content of `.shards.json`."""

    run: int
    ended: Ended | None = None
    again: tuple[int, int] | None = None

    def write(self, folder: Path) -> None:
        """Write the board atomically. Raises UserError if the disk is full."""
        content = {"run": self.run, "ended": self.ended, "again": self.again}
        write_atomically(folder / BOARD_FILE, json.dumps(content) + "\n")


def read_board(folder: Path, run: int) -> Board:
    """The board of a run; an empty one if it does not exist yet."""
    try:
        content = json.loads((folder / BOARD_FILE).read_bytes())
        if content["run"] != run:
            return Board(run=run)
        again = content["again"]
        ended: Ended | None = content["ended"]
        return Board(run=run, ended=ended, again=None if again is None else (int(again[0]), int(again[1])))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return Board(run=run)


class Shards:
    """This worker's connection to the others that fill `folder`. With one process every method is a no-op."""

    def __init__(self, group: ProcessGroup, folder: Path) -> None:
        self.group, self.folder = group, folder
        self.run = 0
        """Id of this run, the same in all workers."""
        self.lost: tuple[int, ...] = ()
        """Ranks of workers that are gone."""
        self._locks: dict[int, Path] = {}
        self._polled = self._heard = time.monotonic()
        self._is_ending = False

    @property
    def alone(self) -> bool:
        """Whether there is only one process."""
        return self.group.size == 1

    @property
    def others(self) -> tuple[int, ...]:
        """Ranks of the other workers."""
        return tuple(rank for rank in range(self.group.size) if rank != self.group.rank)

    def is_own(self, index: int) -> bool:
        """Whether the row of this number is generated here."""
        return index % self.group.size == self.group.rank

    # ---- before the first row

    def together(self, act: Callable[[], Result]) -> Result:
        """Call `act` in every worker; returns its result once it has succeeded in all of them.

        If it fails, the lowest rank in which it failed raises its UserError, and all others raise ElsewhereError. So an
        error in all workers is reported once.
        """
        result: Any = None
        problem = None
        try:
            result = act()
        except UserError as error:
            problem = error
        failed = self._gather(int(problem is not None))
        if not any(failed):
            done: Result = result
            return done
        if problem is not None and failed.index(1) == self.group.rank:
            raise problem
        raise ElsewhereError

    def agree(self, *what: object) -> None:
        """Agree on the id of the run. Raises UserError if not all workers would generate the same rows."""
        sums = self._gather(zlib.crc32(repr(what).encode()) >> 1)
        self.run = self._gather(secrets.randbits(31) if self.group.is_rank_zero else 0)[0]
        different = [rank for rank, each in enumerate(sums) if each != sums[0]]
        if different and self.group.is_rank_zero:
            raise UserError(
                f"{_named(different)} would generate different rows from process 0",
                where=str(self.folder),
                fix="use the same weights, settings and version of mlx-suite on every machine",
            )
        if different:
            raise ElsewhereError

    def broadcast(self, number: int) -> int:
        """Broadcast a non-negative number from rank 0."""
        return self._gather(number)[0]

    def barrier(self) -> None:
        """Wait until every worker holds its lock, then start watching the locks."""
        self._gather(0)
        paths = {rank: self.folder / (drafts_name(rank) if rank else LOCK_NAME) for rank in self.others}
        self._locks = {rank: path for rank, path in paths.items() if is_held(path)}
        self.heard()

    def _gather(self, number: int) -> list[int]:
        """All-gather one number of up to 31 bits per worker."""
        if self.alone:
            return [number]
        own = [number if rank == self.group.rank else 0 for rank in range(self.group.size)]
        with lost_process(self.folder, lambda: None):
            numbers: Any = self.group.all_sum(mx.array(own, mx.int32)).tolist()
        return [int(each) for each in numbers]

    # ---- while rows are generated

    @property
    def board(self) -> Board:
        """Rank 0's report."""
        return read_board(self.folder, self.run)

    def requests(
        self, following: Iterator[Request | None], lead: Callable[[], int], slots: int, poll: Callable[[], None]
    ) -> Iterator[Request | None]:
        """Yield the requests in `following` until a worker is lost, pausing while this worker is too far ahead.

        Args:
            following: Requests for this worker's rows.
            lead: Rows from the first undecided one to the next request.
            slots: Rows generated concurrently here.
            poll: Called at intervals while rows are generated, as by `wait`.
        """
        if self.alone:
            yield from following
            return
        reach = MAX_LEAD * slots * self.group.size
        while not self.lost:
            self._poll_in_time(poll)
            if lead() > reach:
                yield None
                continue
            try:
                request = next(following)
            except StopIteration:
                return
            if request is not None:
                request.on_token = lambda token: self._poll_in_time(poll)
            yield request

    def wait(self, poll: Callable[[], None]) -> None:
        """Poll the other workers' files while there is nothing to generate here.

        Raises UserError if another worker is gone or has been silent for too long.
        """
        if self.alone:
            return
        if self.lost:
            raise self._lost_error()
        time.sleep(POLL_SECONDS)
        self._watch()
        poll()
        if time.monotonic() - self._heard > self.group.patience:
            raise UserError(
                f"The other processes of this run have been silent for {self.group.patience:.0f} seconds",
                where=str(self.folder),
                fix="check whether their machines are running, stop what is left of the run, and repeat the command",
            )

    def linger(self) -> None:
        """Wait briefly for rank 0 to report a lost worker.

        Raises ElsewhereError if rank 0's lock is not visible here.
        """
        if 0 not in self._locks:
            raise ElsewhereError
        time.sleep(POLL_SECONDS)
        if is_held(self._locks[0]) is False and self.board.ended is None:
            self.lost = (0, *self.lost)

    def heard(self) -> None:
        """Note that another worker has been active."""
        self._heard = time.monotonic()

    def _lost_error(self) -> UserError:
        gone = f"{_named(self.lost)} of this run's {self.group.size} {'is' if len(self.lost) == 1 else 'are'} gone"
        return UserError(
            gone,
            where=str(self.folder),
            fix="look for its own error message, or check its machine. The same command resumes with any number of "
            "processes",
            details=["every finished row is kept"],
        )

    def _poll_in_time(self, poll: Callable[[], None]) -> None:
        if time.monotonic() - self._polled >= POLL_SECONDS:
            self._watch()
            poll()
            self._polled = time.monotonic()

    def _watch(self) -> bool:
        """Check the locks; True if a worker is gone."""
        if not self.lost:
            free = tuple(rank for rank, path in self._locks.items() if is_held(path) is False)
            # The board is read after the locks: an orderly end is reported before the lock is released.
            if free and self.board.ended is None:
                self.lost = (0,) if 0 in free else free  # without rank 0 all others end as well
        return bool(self.lost)

    @contextmanager
    def terminable(self) -> Iterator[None]:
        """Let rows in flight finish in the block on a SIGTERM that follows the loss of a worker.

        `mlx.launch` then sends it to all other workers. Any other SIGTERM, or a second one, acts like Ctrl-C.
        """

        def ended(number: int, frame: object) -> None:
            if self._is_ending or not self._watch():
                raise KeyboardInterrupt
            self._is_ending = True

        if self.alone or threading.current_thread() is not threading.main_thread():
            yield  # only the main thread can catch signals
            return
        before = signal.signal(signal.SIGTERM, ended)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def _named(ranks: Sequence[int]) -> str:
    """Processes as `mlx.launch` numbers them."""
    *most, last = map(str, ranks)
    return f"Processes {', '.join(most)} and {last}" if most else f"Process {last}"
