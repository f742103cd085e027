"""Document mask for packed rows: attention stays within each document.

Shapes: B rows, L positions.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt

from mlx_suite.modeling.block_attention import BLOCK
from mlx_suite.modeling.masks import RowMask
from mlx_suite.runtime.errors import UserError

KV_CACHES = ("KVCache", "RotatingKVCache")
"""mlx-lm's caches of layers that mix positions only by attention, which a mask can restrict."""


Documents = tuple[mx.array, int]
"""The document id of each position (B, L), and a bound of the documents' lengths."""


class DocumentMask:
    """A stateless stand-in for a layer's KV cache that supplies the document mask.

    `document` (B, L) is the document id of each position; a query attends causally to keys with its own id. Rotary
    positions are not reset at document boundaries: only their differences enter the scores.

    `longest`: No document is longer. Keys farther away are not visited; a smaller number means less work.
    """

    offset = 0

    def __init__(self, document: mx.array, longest: int | None = None) -> None:
        self.document, self.longest = document, longest

    @property
    def length(self) -> mx.array:
        """(B,) length of the longest document, for RoPE that depends on it."""
        return document_sizes(self.document).max(axis=-1)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        return keys, values

    def row_mask(self, window: int | None) -> RowMask:
        """The mask as our models take it."""
        document = self.document
        position = mx.arange(document.shape[1])
        begins = mx.pad(document[:, 1:] != document[:, :-1], [(0, 0), (1, 0)], constant_values=True)
        starts = mx.cummax(mx.where(begins, position, 0), axis=1)  # (B, L)
        return RowMask(length=document.shape[1], window=window, starts=starts, longest=self.longest)

    def make_mask(self, length: int, return_array: bool = True, window_size: int | None = None) -> mx.array:
        """The mask (B, 1, L, L) as mlx-lm's models take it."""
        return self.row_mask(window_size).array


def document_caches(document: mx.array, layers: int, longest: int | None = None) -> list[Any]:
    """One document mask per layer, to be passed as `model(tokens, cache=…)`."""
    return [DocumentMask(document, longest)] * layers


def document_sizes(document: mx.array) -> mx.array:
    """(B, L) length of the document that each position belongs to."""
    rows, length = document.shape
    counts = mx.zeros((rows, length + 1), mx.int32).at[mx.arange(rows)[:, None], document].add(1)
    return mx.take_along_axis(counts, document.astype(mx.int32), axis=1)


def longest_document(document: npt.NDArray[np.uint16]) -> int:
    """A bound of the lengths of the documents in ids (B, L): L, halved while all documents fit.

    A training step is compiled for each bound, so there are few.
    """
    longest = max(int(np.bincount(row)[1:].max(initial=0)) for row in document)
    bound: int = document.shape[1]
    while bound > BLOCK and longest <= bound // 2:
        bound //= 2
    return bound


def refuse_packing(model: nn.Module) -> None:
    """Raise UserError if packed documents would not be independent in `model`.

    Some mlx-lm models have learned absolute positions, and some carry a recurrent state from token to token.
    """
    if type(model).__module__.startswith("mlx_suite."):
        return
    embedding_types = (nn.Embedding, nn.QuantizedEmbedding)
    embeddings = [path for path, module in model.named_modules() if isinstance(module, embedding_types)]
    make_cache: Any = getattr(model, "make_cache", None)
    kinds = {type(cache).__name__ for cache in make_cache()} if make_cache else set()
    if len(embeddings) > 1:
        reason = f"it has more than one embedding (learned positions, for example): {', '.join(embeddings[1:])}"
    elif kinds - set(KV_CACHES):
        reason = f"its layers cache more than keys and values: {', '.join(sorted(kinds - set(KV_CACHES)))}"
    else:
        return
    raise UserError(
        "Packed examples would not be independent in this model",
        where="--batching pack",
        fix="--batching bucket",
        details=[reason],
    )
