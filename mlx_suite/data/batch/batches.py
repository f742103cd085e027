"""Batches to learn from, in an order that follows from (seed, epoch, position) alone.

Two ways to make them: packed rows of one shape, or one document a row beside others of its length. Either way a
resumed run reads what an undisturbed one reads, and several machines can each take their rows of the same batch.

Shapes: B rows of a batch, L positions that are fed, M targets that are trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mlx_suite.data.batch.rows import Document, Rows

Order = npt.NDArray[np.int64]

EMPTY = -1
"""A row number that stands for a row without documents: it fills a batch up to its shape."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one forward pass is given. Only the hidden states at `index` go through the head."""

    tokens: npt.NDArray[np.uint32]
    """(B, L)"""
    document: npt.NDArray[np.uint16] | None
    """(B, L) which document of its row a position belongs to, 0 for none; None where every row is one document, whose
    padding stands behind it, out of sight of a causal mask."""
    index: npt.NDArray[np.int32]
    """(M,) places in the flattened B·L positions whose next token is trained; filled up with 0."""
    targets: npt.NDArray[np.int32]
    """(M,) the tokens that come next there."""
    weights: npt.NDArray[np.float32]
    """(M,) how much each counts; 0 where `index` is only filled up."""

    @property
    def trained(self) -> int:
        """Targets that count."""
        return int((self.weights > 0).sum())

    @property
    def total(self) -> float:
        """The sum of the weights, by which a sum of losses becomes a mean."""
        return float(self.weights.sum(dtype=np.float64))


class Batches(Protocol):
    """A set of rows to learn from."""

    @property
    def per_epoch(self) -> int:
        """Batches of one pass over everything; the last may be filled up with empty rows."""

    def order(self, seed: int, epoch: int) -> list[Order]:
        """The row numbers of each batch of an epoch."""

    def take(self, chosen: Order) -> Batch:
        """The rows `chosen` as a batch; EMPTY gives an empty one."""


@dataclass(frozen=True)
class PackedBatches:
    """Batches of packed rows: one shape for all, so a step is compiled once."""

    rows: Rows
    size: int
    """Rows of a batch, B."""

    def __post_init__(self) -> None:
        weights = self.rows.target_weights
        object.__setattr__(self, "_weights", weights)
        counts = np.sort((weights > 0).sum(axis=1))[::-1]
        object.__setattr__(self, "_trained", counts)

    @property
    def per_epoch(self) -> int:
        return -(-len(self.rows) // self.size)

    def order(self, seed: int, epoch: int) -> list[Order]:
        order = np.random.default_rng([seed, epoch]).permutation(len(self.rows))
        missing = self.per_epoch * self.size - len(order)
        return list(np.concatenate([order, np.full(missing, EMPTY)]).reshape(-1, self.size))

    def take(self, chosen: Order) -> Batch:
        there = (chosen != EMPTY)[:, None]
        weights: npt.NDArray[np.float32] = self._weights[chosen] * there  # type: ignore[attr-defined]
        # As many as the fullest rows together could have: the same for every batch of this many rows.
        most = int(self._trained[: len(chosen)].sum())  # type: ignore[attr-defined]
        document = (self.rows.document[chosen] * there).astype(np.uint16)
        return _batch(self.rows.tokens[chosen] * there, document, weights, _rounded(most, 64))


@dataclass(frozen=True)
class BucketedBatches:
    """Batches of single documents of about the same length, padded to the longest of the batch.

    Each epoch mixes anew which documents of a length come together, and in which order the batches come.
    """

    documents: Sequence[Document]
    size: int
    """Documents of a batch, B."""
    step: int = 16
    """Widths are multiples of this: fewer shapes, fewer compilations."""

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
        # Quarters of the batch: at most four sizes for each width.
        most = _rounded(int((weights > 0).sum()), max(64, weights.size // 4))
        return _batch(tokens, None, weights, min(most, weights.size))


def share(chosen: Order, rank: int, size: int) -> Order:
    """The rows of a batch that one of `size` machines takes; all take equally many, some of them empty."""
    missing = -len(chosen) % size
    return np.concatenate([chosen, np.full(missing, EMPTY)])[rank::size]


def padding(batches: Batches, seed: int = 0) -> float:
    """Share of the positions of an epoch that hold no document."""
    fed = held = 0
    for chosen in batches.order(seed, 0):
        batch = batches.take(chosen)
        fed += batch.tokens.size
        if batch.document is not None:
            held += int((batch.document > 0).sum())
        else:
            assert isinstance(batches, BucketedBatches)
            held += sum(len(batches.documents[i]) - 1 for i in chosen if i != EMPTY)
    return 1 - held / fed


def _batch(
    tokens: npt.NDArray[np.uint32],
    document: npt.NDArray[np.uint16] | None,
    weights: npt.NDArray[np.float32],
    most: int,
) -> Batch:
    """tokens and document (B, L + 1), weights of the targets (B, L)."""
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
