"""Rank 0's work for the other workers: take in their drafts, request retries, and announce the end of the run."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlx_suite.magpie.records import Draft, drafts_name
from mlx_suite.magpie.scheduler import Pool
from mlx_suite.magpie.shards import Board, Shards
from mlx_suite.magpie.tail import Tail


class First:
    """Rank 0 of `shards`. Without other workers every method is a no-op."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self.complete = False
        """Whether the folder is complete."""
        self._tails = [Tail(shards.folder / drafts_name(rank)) for rank in shards.others]
        self._incomplete: Draft | None = None
        """The last draft for which a retry was requested."""
        self._requests = 0
        """Retries requested so far."""

    @contextmanager
    def leading(self) -> Iterator[None]:
        """The other workers start when the block is entered and end after it."""
        if self.shards.alone:
            yield
            return
        self._write(Board(run=self.shards.run))
        self.shards.together(lambda: None)  # the others open their files
        self.shards.meet()
        try:
            with self.shards.terminable():
                yield
        finally:
            self._write(Board(run=self.shards.run, ended="complete" if self.complete else "stopped"))

    def arrived(self) -> Iterator[Draft]:
        """New drafts of the other workers."""
        for tail in self._tails:
            for draft in tail.drafts():
                self.shards.heard()
                yield draft

    def ask_again(self, pool: Pool) -> None:
        """Tell another worker if the next decision needs something that it skipped in its row.

        It had predicted that the row would be rejected. Rank 0's own rows are retried by the pool.
        """
        draft = pool.drafts.get(pool.next_index)
        if draft is None or draft is self._incomplete or pool.is_own(draft.index):
            return
        self._incomplete = draft
        self._requests += 1
        self._write(Board(run=self.shards.run, again=(draft.index, self._requests)))

    def _write(self, board: Board) -> None:
        board.write(self.shards.folder)
