"""Training batches of tokenized corpora, by concat-and-split: the documents form one stream, cut into equal rows.

Neighbouring rows overlap by one token, so every token of a part but its first is a target exactly once per pass,
whatever documents it lies between.

Shapes: B rows in a batch, L input positions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.data.batch.batches import EMPTY, Batch, Order, as_batch
from mlx_suite.data.corpus.mixture import LedgerEntry, MixturePart, mixed_order, quotas, rows_in_passes
from mlx_suite.runtime.errors import UserError

LONGEST = (1 << 16) - 2
"""Largest L: the documents of a row are numbered with 16 bits."""


class CorpusBatches:
    """Batches of rows of a mixture; all have one shape, so a training step is compiled once.

    Args:
        length: Input positions of a row, L.
        size: Rows of a batch, B.
        isolate: Whether attention stays within a document, and no document's first token is a target.

    Raises UserError if the weights do not make a mixture.
    """

    def __init__(self, parts: Sequence[MixturePart], *, length: int, size: int, isolate: bool = False) -> None:
        assert 0 < length <= LONGEST and size > 0
        _check(parts)
        self.parts = tuple(parts)
        self.length, self.size, self.isolate = length, size, isolate
        self.rows = [-(-(part.file.count - 1) // length) for part in parts]
        """Rows of each part; the last one may be shorter."""
        self.quotas = quotas([part.weight for part in parts], sum(self.rows))
        """Rows that an epoch takes of each part."""
        self._firsts = np.concatenate([[0], np.cumsum(self.rows)])

    @property
    def per_epoch(self) -> int:
        """Batches of an epoch; the last may have empty rows."""
        return -(-sum(self.quotas) // self.size)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the batches depend on, for checkpoints."""
        parts = [{"name": part.name, "tokens": part.file.fingerprint, "weight": part.weight} for part in self.parts]
        return {"parts": parts, "length": self.length, "size": self.size, "isolate": self.isolate}

    def order(self, seed: int, epoch: int) -> list[Order]:
        """The row numbers of each batch in an epoch."""
        order = mixed_order(self.rows, self.quotas, seed, epoch)
        missing = self.per_epoch * self.size - len(order)
        return list(np.concatenate([order, np.full(missing, EMPTY)]).reshape(-1, self.size))

    def take(self, chosen: Order) -> Batch:
        """The rows `chosen` as a batch; EMPTY gives an empty row. M is B·L."""
        shape = len(chosen), self.length + 1
        tokens, document = np.zeros(shape, np.uint32), np.zeros(shape, np.uint16)
        for number, row in enumerate(chosen):
            if row != EMPTY:
                part, start, stop = self._span(int(row))
                tokens[number, : stop - start] = self.parts[part].file.read(start, stop)
                document[number, : stop - start] = self._documents(part, start, stop)
        before, after = document[:, :-1], document[:, 1:]
        weights = ((before == after) & (after > 0)).astype(np.float32)
        return as_batch(tokens, document if self.isolate else None, weights, weights.size)

    def ledger(self, *, seed: int, steps: int, accumulate: int = 1) -> tuple[LedgerEntry, ...]:
        """What the first `steps` steps of a run, of `accumulate` batches each, read of every part."""
        epochs, rest = divmod(steps, -(-self.per_epoch // accumulate))
        counts = np.array(self.quotas) * epochs
        if rest:
            rows = np.concatenate(self.order(seed, epochs)[: rest * accumulate])
            places = np.searchsorted(self._firsts, rows[rows != EMPTY], side="right") - 1
            counts += np.bincount(places, minlength=len(self.parts))
        targets = [self._targets(part) for part in range(len(self.parts))]
        whole = [int(each.sum()) for each in targets]
        tokens = []
        for part, count in enumerate(counts.tolist()):
            passes, left = divmod(count, self.rows[part])
            begun = rows_in_passes(self.rows[part], passes * self.rows[part], left, seed, part)
            tokens.append(passes * whole[part] + int(targets[part][begun].sum()))
        return tuple(
            LedgerEntry(name=part.name, tokens=seen, share=seen / max(sum(tokens), 1), passes=seen / max(once, 1))
            for part, seen, once in zip(self.parts, tokens, whole, strict=True)
        )

    def _span(self, row: int) -> tuple[int, int, int]:
        """Part of a row, and where its tokens begin and end in it."""
        part = int(np.searchsorted(self._firsts, row, side="right")) - 1
        start = (row - int(self._firsts[part])) * self.length
        return part, start, min(start + self.length + 1, self.parts[part].file.count)

    def _documents(self, part: int, start: int, stop: int) -> npt.NDArray[np.uint16]:
        """The document of each token in its row, from 1; all are 1 without isolation."""
        numbers = np.ones(stop - start, np.uint16)
        if self.isolate:
            ends = self.parts[part].file.ends
            # Of the index's own type, or NumPy would convert all of the index.
            first, last = np.searchsorted(ends, np.array([start, stop - 1], ends.dtype), side="right")
            begins = np.zeros(stop - start, np.uint16)
            begins[ends[first:last].astype(np.int64) - start] = 1
            numbers += np.cumsum(begins, dtype=np.uint16)
        return numbers

    def _targets(self, part: int) -> npt.NDArray[np.int64]:
        """Targets of each row of a part."""
        file = self.parts[part].file
        targets = np.full(self.rows[part], self.length, np.int64)
        targets[-1] = file.count - 1 - (len(targets) - 1) * self.length
        if self.isolate:
            starts = np.asarray(file.ends[:-1], np.int64)  # First tokens of documents, which are no targets.
            targets -= np.bincount((starts - 1) // self.length, minlength=len(targets))
        return targets


def _check(parts: Sequence[MixturePart]) -> None:
    problems = [f"{part.name}: weight {part.weight}" for part in parts if not 0 <= part.weight < float("inf")]
    if problems or not sum(part.weight for part in parts):
        raise UserError(
            "The weights do not make a mixture",
            fix="give every part a weight of 0 or more, and at least one of them more than 0",
            details=problems,
        )
