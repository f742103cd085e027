"""What the first process of a run does for the others: it takes in their drafts, asks for some again, and says when
the run has ended."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlx_suite.magpie.board import Board
from mlx_suite.magpie.draft import Draft
from mlx_suite.magpie.drafts import drafts_name
from mlx_suite.magpie.pool import Pool
from mlx_suite.magpie.shards import Shards
from mlx_suite.magpie.tail import Tail


class First:
    """The first process among `shards`. Alone, it has nobody to do anything for."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self.complete = False
        """Whether all rows that were wanted are there."""
        self._tails = [Tail(shards.folder / drafts_name(rank)) for rank in shards.others]
        self._lacking: Draft | None = None
        """The last draft that was found to lack something."""
        self._found = 0
        """How many were."""

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Before the block the others may begin, behind it they end."""
        if self.shards.alone:
            yield
            return
        self._write(Board(run=self.shards.run))
        self.shards.together(lambda: None)  # they open their files
        self.shards.meet()
        try:
            with self.shards.terminable():
                yield
        finally:
            self._write(Board(run=self.shards.run, ended="complete" if self.complete else "stopped"))

    def arrived(self) -> Iterator[Draft]:
        """Drafts of the others that have not been seen before."""
        for tail in self._tails:
            for draft in tail.drafts():
                self.shards.heard()
                yield draft

    def ask_again(self, pool: Pool) -> None:
        """If the next decision wants more than another process has left out of its row, tell that process.

        It left out what it took for unneeded; a row of this process is made again by the pool itself.
        """
        draft = pool.drafts.get(pool.following)
        if draft is None or draft is self._lacking or pool.mine(draft.index):
            return
        self._lacking = draft
        self._found += 1
        self._write(Board(run=self.shards.run, again=(draft.index, self._found)))

    def _write(self, board: Board) -> None:
        board.write(self.shards.folder)
