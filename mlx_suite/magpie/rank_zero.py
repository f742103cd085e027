"""Rank 0's side of a run with several workers: collect drafts, request retries, and announce the end."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlx_suite.magpie.records import Draft, drafts_name
from mlx_suite.magpie.scheduler import Pool
from mlx_suite.magpie.shards import Board, Shards
from mlx_suite.magpie.tail import Tail


class RankZero:
    """Rank 0 of a run. Without other workers every method is a no-op."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self.complete = False
        """True if the folder is complete."""
        self._tails = [Tail(shards.folder / drafts_name(rank)) for rank in shards.others]
        self._incomplete: Draft | None = None
        """The last draft for which a retry was requested."""
        self._requests = 0
        """Retries requested so far."""

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Start the other workers when the block is entered and end them after it."""
        if self.shards.alone:
            yield
            return
        self._write(Board(run=self.shards.run))
        self.shards.together(lambda: None)  # the others open their files
        self.shards.barrier()
        try:
            with self.shards.terminable():
                yield
        finally:
            self._write(Board(run=self.shards.run, ended="complete" if self.complete else "stopped"))

    def arrived(self) -> Iterator[Draft]:
        """Yield new drafts from the other workers."""
        for tail in self._tails:
            for draft in tail.drafts():
                self.shards.heard()
                yield draft

    def request_retry(self, pool: Pool) -> None:
        """Request a retry if the next decision needs something that another worker skipped in its row.

        The worker had predicted a rejection. Rank 0's own rows are retried by the pool.
        """
        draft = pool.drafts.get(pool.next_index)
        if draft is None or draft is self._incomplete or pool.is_own(draft.index):
            return
        self._incomplete = draft
        self._requests += 1
        self._write(Board(run=self.shards.run, again=(draft.index, self._requests)))

    def _write(self, board: Board) -> None:
        board.write(self.shards.folder)
