"""Document mask for packed rows: attention stays within each document.

Shapes: B rows, L positions.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.runtime.errors import UserError

KV_CACHES = ("KVCache", "RotatingKVCache")
"""mlx-lm's caches of layers that mix positions only by attention, which a mask can restrict."""


class DocumentMask:
    """A stateless stand-in for a layer's KV cache that supplies the document mask.

    `document` (B, L) is the document id of each position; a query attends causally to keys with its own id. Rotary
    positions are not reset at document boundaries: only their differences enter the scores.
    """

    offset = 0

    def __init__(self, document: mx.array) -> None:
        self.document = document

    @property
    def length(self) -> mx.array:
        """(B,) length of the longest document, for RoPE that depends on it."""
        same = self.document[:, :, None] == self.document[:, None, :]  # (B, L, L)
        return same.sum(axis=-1).max(axis=-1)

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
    """One document mask per layer, to be passed as `model(tokens, cache=…)`."""
    return [DocumentMask(document)] * layers


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
