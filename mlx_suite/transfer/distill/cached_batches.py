"""Batches whose targets know their place in a cache of the teacher's distributions.

Shapes: B rows, L input positions, M targets, N draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_suite.data.batch.batches import (
    EMPTY,
    Batch,
    Batches,
    BucketedBatches,
    MixedBatches,
    Order,
    PackedBatches,
)
from mlx_suite.transfer.distill.cache import Cache, key_of

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class PlacedBatch(Batch):
    """A batch whose targets are in a cache."""

    places: Ints
    """(M,) position of each target in the cache; 0 where `index` is padding."""


@dataclass(frozen=True)
class CachedBatches:
    """The batches of a finetuning run, with the place of each target in a cache."""

    batches: Batches
    cache: Cache

    @property
    def per_epoch(self) -> int:
        return self.batches.per_epoch

    def order(self, seed: int, epoch: int) -> list[Order]:
        return self.batches.order(seed, epoch)

    def take(self, chosen: Order) -> PlacedBatch:
        batch = self.batches.take(chosen)
        places = np.zeros(batch.tokens.shape, np.int64)
        for row, spans in enumerate(_documents(self.batches, chosen)):
            for start, tokens, weights in spans:
                trained = weights[1:] > 0
                first = self.cache.starts[key_of(tokens, weights)]
                # A target is predicted from the position before it.
                places[row, start : start + len(trained)] = np.where(trained, first + np.cumsum(trained) - 1, 0)
        return PlacedBatch(**vars(batch), places=np.where(batch.weights > 0, places.reshape(-1)[batch.index], 0))


Span = tuple[int, npt.NDArray[Any], npt.NDArray[Any]]
"""Start of a document in its row, its tokens, and their loss weights."""


def _documents(batches: Batches, chosen: Order) -> Iterator[list[Span]]:
    """The documents of each row of a batch."""
    if isinstance(batches, MixedBatches):
        batches, chosen = batches.part_of(chosen)
    if isinstance(batches, BucketedBatches):
        for at in chosen:
            documents = [] if at == EMPTY else [batches.documents[at]]
            yield [(0, np.asarray(each.tokens), np.asarray(each.weights)) for each in documents]
        return
    assert isinstance(batches, PackedBatches)
    rows = batches.rows
    for at in chosen:
        spans: list[Span] = []
        for number in range(1, 1 + int(rows.document[at].max()) if at != EMPTY else 1):
            [inside] = np.nonzero(rows.document[at] == number)
            spans.append((int(inside[0]), rows.tokens[at][inside], rows.weights[at][inside]))
        yield spans
