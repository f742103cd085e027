"""Training batches, in an order that depends only on (seed, epoch, position).

Three kinds: packed rows of one length, packed rows of several lengths, and one document per row next to others of
similar length. A resumed run reads the same batches as an uninterrupted one, and the ranks of a data-parallel run
each take their rows of the same batch.

Shapes: B rows in a batch, L input positions, M trained targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mlx_suite.data.batch.rows import SHORTEST_ROW, Document, Rows, as_rows, best_fit, pack

Order = npt.NDArray[np.int64]

EMPTY = -1
"""Row number of an empty row, which fills a batch up to its shape."""
FULL = 0.97
"""Minimum share of a short row that documents must fill; documents that pack less tightly go into longer rows."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Input of one forward pass. Only the hidden states at `index` go through the head."""

    tokens: npt.NDArray[np.uint32]
    """(B, L)"""
    document: npt.NDArray[np.uint16] | None
    """(B, L) number of the document in its row that a position belongs to, 0 for padding. None if every row is one
    document: its padding comes last, so the causal mask hides it."""
    index: npt.NDArray[np.int32]
    """(M,) indices into the flattened B·L positions whose next token is trained; padded with 0."""
    targets: npt.NDArray[np.int32]
    """(M,) the next tokens at these positions."""
    weights: npt.NDArray[np.float32]
    """(M,) loss weights; 0 where `index` is padding."""

    @property
    def trained(self) -> int:
        """Number of targets with a weight above 0."""
        return int((self.weights > 0).sum())

    @property
    def total(self) -> float:
        """Sum of the weights; the weighted sum of losses divided by it is the mean loss."""
        return float(self.weights.sum(dtype=np.float64))


class Batches(Protocol):
    """Rows of a training set, in batches."""

    @property
    def per_epoch(self) -> int:
        """Batches of an epoch; the last may have empty rows."""

    def order(self, seed: int, epoch: int) -> list[Order]:
        """The row numbers of each batch in an epoch."""

    def take(self, chosen: Order) -> Batch:
        """The rows `chosen` as a batch; EMPTY gives an empty row."""


def shuffled(rows: int, size: int, seed: int, epoch: int) -> list[Order]:
    """All rows in an order that depends on seed and epoch, `size` per batch; the last batch is filled with EMPTY."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    return list(np.concatenate([order, np.full(-rows % size, EMPTY)]).reshape(-1, size))


@dataclass(frozen=True)
class PackedBatches:
    """Batches of packed rows of one length: all have one shape, so a training step is compiled once."""

    rows: Rows
    size: int
    """Rows per batch, B."""

    def __post_init__(self) -> None:
        weights = self.rows.target_weights
        object.__setattr__(self, "_weights", weights)
        counts = np.sort((weights > 0).sum(axis=1))[::-1]
        object.__setattr__(self, "_trained", counts)

    @property
    def per_epoch(self) -> int:
        return -(-len(self.rows) // self.size)

    def order(self, seed: int, epoch: int) -> list[Order]:
        return shuffled(len(self.rows), self.size, seed, epoch)

    def take(self, chosen: Order) -> Batch:
        used = (chosen != EMPTY)[:, None]
        weights: npt.NDArray[np.float32] = self._weights[chosen] * used  # type: ignore[attr-defined]
        # The most targets that any batch of this size can have, so that M is the same for all of them.
        most = int(self._trained[: len(chosen)].sum())  # type: ignore[attr-defined]
        document = (self.rows.document[chosen] * used).astype(np.uint16)
        return as_batch(self.rows.tokens[chosen] * used, document, weights, _rounded(most, 64))


@dataclass(frozen=True)
class BucketedBatches:
    """Batches of documents of similar length, one per row, padded to the longest in the batch.

    Each epoch reshuffles which documents of a length share a batch, and the order of the batches.
    """

    documents: Sequence[Document]
    size: int
    """Documents per batch, B."""
    step: int = 16
    """Widths are multiples of this, for fewer shapes and compilations."""

    @property
    def per_epoch(self) -> int:
        return -(-len(self.documents) // self.size)

    def order(self, seed: int, epoch: int) -> list[Order]:
        random = np.random.default_rng([seed, epoch])
        mixed = random.permutation(len(self.documents))
        lengths = np.array([len(self.documents[i]) for i in mixed])
        by_length = mixed[np.argsort(lengths, kind="stable")]
        missing = self.per_epoch * self.size - len(by_length)
        filled = np.concatenate([np.full(missing, EMPTY), by_length]).reshape(-1, self.size)
        return [filled[i] for i in random.permutation(len(filled))]

    def take(self, chosen: Order) -> Batch:
        members = [self.documents[i] if i != EMPTY else Document([], []) for i in chosen]
        width = _rounded(max(2, *(len(document) - 1 for document in members)), self.step)
        tokens = np.zeros((len(members), width + 1), np.uint32)
        weights = np.zeros((len(members), width), np.float32)
        for i, document in enumerate(members):
            tokens[i, : len(document)] = document.tokens
            weights[i, : max(len(document) - 1, 0)] = document.weights[1:]
        # M is rounded to quarters of the batch: at most four shapes per width.
        most = _rounded(int((weights > 0).sum()), max(64, weights.size // 4))
        return as_batch(tokens, None, weights, min(most, weights.size))


@dataclass(frozen=True)
class MixedBatches:
    """Packed rows of several lengths. The rows of one batch have the same length; short documents are in short rows.

    Attention visits keys as far back as the longest document of a batch reaches and discards those of other documents,
    so one long document would make all short ones expensive.
    """

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
        part, own = self.part_of(chosen)
        return part.take(own)

    def part_of(self, chosen: Order) -> tuple[PackedBatches, Order]:
        """The part that the rows of a batch belong to, and their numbers in it."""
        # A rank's share of a batch may be all empty rows, which any part can provide.
        firsts = self._firsts
        number = max(int(np.searchsorted(firsts, chosen.max(), side="right")) - 1, 0)
        return self.parts[number], np.where(chosen == EMPTY, EMPTY, chosen - firsts[number])

    @property
    def _firsts(self) -> list[int]:
        """Number of each part's first row when the rows of all parts are numbered consecutively."""
        counts = [len(part.rows) for part in self.parts]
        return [sum(counts[:i]) for i in range(len(counts))]


def mixed_batches(documents: Sequence[Document], length: int, size: int) -> MixedBatches:
    """Pack documents into rows of 256, 512, … and `length` positions: the shortest that fit two documents of that size.

    `size` is the number of rows per batch at the full `length`; batches of shorter rows have more rows, for as many
    tokens. Documents that do not fill a batch of short rows go into longer ones, so only the last batch has empty rows.
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


def share(chosen: Order, rank: int, size: int) -> Order:
    """The rows of a batch for one rank of `size`; all ranks take the same number, some of them empty."""
    missing = -len(chosen) % size
    return np.concatenate([chosen, np.full(missing, EMPTY)])[rank::size]


def padding(batches: Batches, seed: int = 0) -> float:
    """Share of the input positions of an epoch that are padding."""
    positions = used = 0
    for chosen in batches.order(seed, 0):
        batch = batches.take(chosen)
        positions += batch.tokens.size
        used += held_positions(batches, chosen, batch)
    return 1 - used / positions


def held_positions(batches: Batches, chosen: Order, batch: Batch) -> int:
    """Positions of a batch that hold a token of a document, which are those that are not padding."""
    if batch.document is not None:
        return int((batch.document > 0).sum())
    assert isinstance(batches, BucketedBatches)
    return sum(len(batches.documents[i]) - 1 for i in chosen if i != EMPTY)


def as_batch(
    tokens: npt.NDArray[np.uint32],
    document: npt.NDArray[np.uint16] | None,
    weights: npt.NDArray[np.float32],
    most: int,
) -> Batch:
    """A Batch from tokens and document (B, L + 1) and target weights (B, L), with M = `most`."""
    [places] = np.nonzero(weights.reshape(-1))
    assert len(places) <= most
    index = np.zeros(most, np.int32)
    index[: len(places)] = places
    counted = np.zeros(most, np.float32)
    counted[: len(places)] = weights.reshape(-1)[places]
    return Batch(
        tokens=tokens[:, :-1].astype(np.uint32),
        document=None if document is None else document[:, :-1],
        index=index,
        targets=tokens[:, 1:].reshape(-1)[index].astype(np.int32),
        weights=counted,
    )


def _rounded(number: int, step: int) -> int:
    return max(step, -(-number // step) * step)
