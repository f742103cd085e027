"""Attention masks; True means that the query sees the key.

Shapes: B rows, L queries, S keys, W window.
"""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx


@dataclass(frozen=True, kw_only=True)
class RowMask:
    """The causal mask of whole rows: each query sees a range of keys that ends at itself.

    So L numbers describe L × L pairs, and a block of pairs is computed where it is needed.
    """

    length: int
    """L."""
    window: int | None = None
    """Keys that a query sees at most, its own included."""
    starts: mx.array | None = None
    """(B, L) where the document of each position starts, in packed rows; None if every row is one document."""
    longest: int | None = None
    """A bound of the documents' lengths."""

    @property
    def plain(self) -> bool:
        """Whether a query sees all keys before it."""
        return self.starts is None and (self.window is None or self.window >= self.length)

    @property
    def reach(self) -> int:
        """A number of keys that no query sees more of."""
        return min(each for each in (self.length, self.window, self.longest) if each is not None)

    @property
    def first(self) -> mx.array:
        """(B or 1, L) the first key that each query sees."""
        begin = mx.zeros((1, self.length), mx.int32) if self.starts is None else self.starts
        return (
            begin
            if self.window is None
            else mx.maximum(begin, mx.arange(1 - self.window, self.length + 1 - self.window))
        )

    @property
    def array(self) -> mx.array:
        """The mask of all pairs, (B or 1, 1, L, L)."""
        position = mx.arange(self.length)
        return ((self.first[:, :, None] <= position) & (position <= position[:, None]))[:, None]


Mask = mx.array | str | RowMask | None
"""A mask: None (all visible), "causal", whole rows, or a boolean array that broadcasts to (B, H, L, S)."""


def causal_mask(length: int, window: int | None = None, *, before: int = 0) -> mx.array:
    """(L, S) mask, S = before + L: each position sees itself and earlier ones, at most `window` positions in total."""
    query = mx.arange(before, before + length)[:, None]
    key = mx.arange(before + length)[None, :]
    visible = key <= query
    return visible if window is None else visible & (key > query - window)


def attention_mask(length: int, cache: Any, window: int | None) -> Mask:
    """The mask for `length` new tokens after those in `cache` (the cache of one layer, or None)."""
    if hasattr(cache, "row_mask"):  # packed rows
        return cache.row_mask(window)
    if cache is not None:
        return cache.make_mask(length, return_array=False, window_size=window)
    return None if length == 1 else RowMask(length=length, window=window)
