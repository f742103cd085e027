"""Several processes that fill one folder: which rows each one makes, and how they learn of each other's end.

Under `mlx.launch` process r of W makes the rows whose numbers leave r when divided by W, and appends them to a file of
its own. The first decides all rows in their order, as it does alone; the others read what it has decided (`follow`).
So all that passes between them are files of the folder, which they share. MLX's group tells who is who, and carries a
few numbers before the first row; behind that nobody waits for a message, since it might never come.

Each process holds the lock on its own file, which its end sets free, however it ends. Whoever finds that another one
is gone begins no more rows, finishes those under way and ends: `mlx.launch` stops all others when one has failed, so
nobody could take over the rows of the lost one for long. The same command goes on, with any number of processes.

What is assumed of the folder's file system: a file that is opened shows what others have written and flushed, sooner
or later; locks that are held on one machine are seen on the others. Where they are not (`unwatched`), or where a
machine loses its power and its lock stays, the end of a process is not noticed until nothing has come from it for
`Peers.patience`.
"""

import secrets
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx

from mlx_suite.engine import Request
from mlx_suite.magpie.board import Board, read_board
from mlx_suite.magpie.drafts import drafts_name
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.lock import LOCK_NAME, is_held
from mlx_suite.training.peers import Peers, lost_peer

Result = TypeVar("Result")
LOOK = 0.2
"""Seconds between two looks at the others' files."""
LEAD = 4
"""How many batches of its rows a process may be ahead of the first undecided row: enough for rows of any length."""


class ElsewhereError(Exception):
    """The run has ended because of another process, which says why."""


class Over(Exception):
    """The run has ended well, in the middle of rows that nobody needs any more."""


class Shards:
    """This process among those that fill `folder`. Of one alone, nothing here does anything."""

    def __init__(self, peers: Peers, folder: Path) -> None:
        self.peers, self.folder = peers, folder
        self.run = 0
        """Number of this run, the same in all its processes."""
        self.lost: tuple[int, ...] = ()
        """Processes that are gone."""
        self.unwatched: tuple[int, ...] = ()
        """Processes whose locks cannot be seen from here."""
        self._locks: dict[int, Path] = {}
        self._looked = self._heard = time.monotonic()
        self._asked_to_end = False

    @property
    def alone(self) -> bool:
        return self.peers.size == 1

    @property
    def others(self) -> tuple[int, ...]:
        return tuple(rank for rank in range(self.peers.size) if rank != self.peers.rank)

    def mine(self, index: int) -> bool:
        """Whether a row of this number is made here."""
        return index % self.peers.size == self.peers.rank

    # ---- before the first row

    def together(self, act: Callable[[], Result]) -> Result:
        """What `act` gives, once it has worked in every process.

        Raises UserError, its own, in the first process in which it has not, and ElsewhereError in all others: a
        mistake that all make is told once.
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
        if problem is not None and failed.index(1) == self.peers.rank:
            raise problem
        raise ElsewhereError

    def agree(self, *what: object) -> None:
        """Settle the number of the run. Raises UserError where not all processes would write the same rows."""
        sums = self._gather(zlib.crc32(repr(what).encode()) >> 1)
        self.run = self._gather(secrets.randbits(31) if self.peers.first else 0)[0]
        strange = [rank for rank, each in enumerate(sums) if each != sums[0]]
        if strange and self.peers.first:
            raise UserError(
                f"{_named(strange)} would write other rows than the first process",
                where=str(self.folder),
                fix="use the same weights, settings and version of mlx-suite on every machine",
            )
        if strange:
            raise ElsewhereError

    def tell(self, number: int) -> int:
        """A number of the first process, from 0 up, for all."""
        return self._gather(number)[0]

    def meet(self) -> None:
        """Wait until every process holds its lock. From here on they are watched."""
        self._gather(0)
        paths = {rank: self.folder / (drafts_name(rank) if rank else LOCK_NAME) for rank in self.others}
        self._locks = {rank: path for rank, path in paths.items() if is_held(path)}
        self.unwatched = tuple(rank for rank in paths if rank not in self._locks)
        self.heard()

    def _gather(self, number: int) -> list[int]:
        """A number from each process: 31 bits."""
        if self.alone:
            return [number]
        own = [number if rank == self.peers.rank else 0 for rank in range(self.peers.size)]
        with lost_peer(self.folder, lambda: None):
            numbers: Any = self.peers.add_up(mx.array(own, mx.int32)).tolist()
        return [int(each) for each in numbers]

    # ---- meanwhile

    @property
    def board(self) -> Board:
        """What the first process tells."""
        return read_board(self.folder, self.run)

    def requests(
        self, following: Iterator[Request | None], ahead: Callable[[], int], slots: int, look: Callable[[], None]
    ) -> Iterator[Request | None]:
        """The requests that `following` gives, as long as nobody is lost, and none too far ahead.

        Args:
            following: Of this process's rows.
            ahead: Rows by which the next one is ahead of the first undecided one.
            slots: Rows made here side by side.
            look: Called every now and then while rows are made, as by `wait`.
        """
        if self.alone:
            yield from following
            return
        reach = LEAD * slots * self.peers.size
        while not self.lost:
            self._look_in_time(look)
            if ahead() > reach:
                yield None
                continue
            try:
                request = next(following)
            except StopIteration:
                return
            if request is not None:
                request.on_token = lambda token: self._look_in_time(look)
            yield request

    def wait(self, look: Callable[[], None]) -> None:
        """Nothing can be made here just now: look what others have made.

        Raises UserError where another process is gone, or has been silent for too long.
        """
        if self.alone:
            return
        if self.lost:
            raise self.loss()
        time.sleep(LOOK)
        self._watch()
        look()
        if time.monotonic() - self._heard > self.peers.patience:
            raise UserError(
                f"Nothing has come from the other processes of this run for {self.peers.patience:.0f} seconds",
                where=str(self.folder),
                fix="look whether their machines still run, stop what is left of it, and start the same command again",
            )

    def linger(self) -> None:
        """A process is gone: wait a little for the first one, which says so.

        Raises ElsewhereError where it cannot be seen from here whether that still runs.
        """
        if 0 not in self._locks:
            raise ElsewhereError
        time.sleep(LOOK)
        if is_held(self._locks[0]) is False and self.board.ended is None:
            self.lost = (0, *self.lost)

    def heard(self) -> None:
        """Something has come from another process."""
        self._heard = time.monotonic()

    def loss(self) -> UserError:
        """What is said when a process is gone."""
        gone = f"{_named(self.lost)} of this run's {self.peers.size} {'is' if len(self.lost) == 1 else 'are'} gone"
        return UserError(
            gone,
            where=str(self.folder),
            fix="look for its own message, or whether its machine still runs. The same command goes on, with as many "
            "processes as there are then",
            details=["every row that was finished is kept"],
        )

    def _look_in_time(self, look: Callable[[], None]) -> None:
        if time.monotonic() - self._looked >= LOOK:
            self._watch()
            look()
            self._looked = time.monotonic()

    def _watch(self) -> bool:
        """Whether a process is gone."""
        if not self.lost:
            free = tuple(rank for rank, path in self._locks.items() if is_held(path) is False)
            # Read behind the locks: whoever ends in good order lets go after that is said.
            if free and self.board.ended is None:
                self.lost = (0,) if 0 in free else free  # without the first all others end
        return bool(self.lost)

    @contextmanager
    def terminable(self) -> Iterator[None]:
        """In the block the signal to end lets rows under way be finished, if it comes because a process is gone.

        That is what `mlx.launch` sends to all others then. Any other, and a second one, is like Ctrl-C.
        """

        def ended(number: int, frame: object) -> None:
            if self._asked_to_end or not self._watch():
                raise KeyboardInterrupt
            self._asked_to_end = True

        if self.alone or threading.current_thread() is not threading.main_thread():
            yield  # only there can signals be caught
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
