"""Several documents in one row, each blind to the others.

Shapes: B rows, L positions, K key heads, D head dimension.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.runtime.errors import UserError

KEYS_AND_VALUES = ("KVCache", "RotatingKVCache")
"""Caches of mlx-lm's layers that see others by attention alone, which a mask can blind."""


class Documents:
    """Stands where a layer's cache stands and keeps nothing: it only says who sees whom.

    `document` (B, L) numbers the document of each position; a query sees the keys of its own, itself and earlier.
    Rotary positions need no reset: only their differences enter the scores.
    """

    offset = 0

    def __init__(self, document: mx.array) -> None:
        self.document = document

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        return keys, values

    def make_mask(self, length: int, return_array: bool = True, window_size: int | None = None) -> mx.array:
        position = mx.arange(length)
        visible = position[:, None] >= position[None, :]
        if window_size is not None:
            visible = visible & (position[:, None] < position[None, :] + window_size)
        same = self.document[:, :, None] == self.document[:, None, :]  # (B, L, L)
        return (visible[None] & same)[:, None]  # (B, 1, L, L)


def document_caches(document: mx.array, layers: int) -> list[Any]:
    """One entry per layer, for `model(tokens, cache=…)`."""
    return [Documents(document)] * layers


def refuse_packing(model: nn.Module) -> None:
    """Raises UserError for a model in which documents of one row would not stay apart.

    Of mlx-lm's models some number the positions of a whole row, and some hand a state from one token to the next.
    """
    if type(model).__module__.startswith("mlx_suite."):
        return
    kinds_of_embedding = (nn.Embedding, nn.QuantizedEmbedding)
    embeddings = [path for path, module in model.named_modules() if isinstance(module, kinds_of_embedding)]
    make_cache: Any = getattr(model, "make_cache", None)
    kinds = {type(cache).__name__ for cache in make_cache()} if make_cache else set()
    if len(embeddings) > 1:
        reason = f"it has embeddings of its own for positions, or the like: {', '.join(embeddings[1:])}"
    elif kinds - set(KEYS_AND_VALUES):
        reason = f"its layers keep more than keys and values: {', '.join(sorted(kinds - set(KEYS_AND_VALUES)))}"
    else:
        return
    raise UserError(
        "Examples that share a row would not stay apart in this model",
        where="--batching pack",
        fix="--batching bucket",
        details=[reason],
    )
