"""Packed rows of several lengths: short documents in short rows.

In a packed row every position is scored against every other of the row, and all but its own document's are thrown
away. That work, and the memory of the scores, grow with the length of the row: one long document among many short ones
would make all of them pay for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlx_suite.data.batch.batches import EMPTY, Batch, Order, PackedBatches
from mlx_suite.data.batch.rows import SHORTEST_ROW, Document, as_rows, best_fit, pack

FULL = 0.97
"""Share of a short row that has to be taken; documents that do not come together so closely go into longer rows."""


@dataclass(frozen=True)
class MixedBatches:
    """Several sets of packed batches as one, their rows numbered through: a batch's rows are of one length."""

    parts: tuple[PackedBatches, ...]

    @property
    def per_epoch(self) -> int:
        return sum(part.per_epoch for part in self.parts)

    def order(self, seed: int, epoch: int) -> list[Order]:
        batches = [
            np.where(chosen == EMPTY, EMPTY, chosen + first)
            for part, first in zip(self.parts, self._firsts, strict=True)
            for chosen in part.order(seed, epoch)
        ]
        return [batches[i] for i in np.random.default_rng([seed, epoch]).permutation(len(batches))]

    def take(self, chosen: Order) -> Batch:
        # A process's share of a batch may be empty rows alone; any part has those.
        firsts = self._firsts
        number = max(int(np.searchsorted(firsts, chosen.max(), side="right")) - 1, 0)
        return self.parts[number].take(np.where(chosen == EMPTY, EMPTY, chosen - firsts[number]))

    @property
    def _firsts(self) -> list[int]:
        """The number of each part's first row."""
        counts = [len(part.rows) for part in self.parts]
        return [sum(counts[:i]) for i in range(len(counts))]


def mixed_batches(documents: Sequence[Document], length: int, size: int) -> MixedBatches:
    """Rows of 256, 512, … and at last `length` positions, each document in the shortest with room for two of it.

    `size` is the rows of a batch of the longest; of shorter ones a batch has as many as hold as many tokens. What does
    not fill a batch of short rows goes into longer ones, so only the last batch of all has empty rows.
    """
    parts: list[PackedBatches] = []
    left = [each for each in documents if any(each.weights[1:])]
    row_length = SHORTEST_ROW
    while 4 * row_length <= 3 * length:
        rows = best_fit([each for each in left if len(each) <= row_length // 2], row_length)
        rows = [row for row in rows if sum(map(len, row)) >= FULL * row_length]
        batch = size * length // row_length
        rows = rows[: len(rows) // batch * batch]
        if rows:
            parts.append(PackedBatches(as_rows(rows, row_length), batch))
        placed = {id(each) for row in rows for each in row}
        left = [each for each in left if id(each) not in placed]
        row_length *= 2
    if left or not parts:
        parts.append(PackedBatches(pack(left, length), size))
    return MixedBatches(tuple(parts))
