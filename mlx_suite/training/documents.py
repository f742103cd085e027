"""Several documents in one row, each blind to the others.

Shapes: B rows, L positions, K key heads, D head dimension.
"""

from typing import Any

import mlx.core as mx


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
