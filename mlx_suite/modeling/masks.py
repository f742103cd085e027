"""Attention masks; True means that the query sees the key.

Shapes: L queries, S keys, W window.
"""

from typing import Any

import mlx.core as mx

Mask = mx.array | str | None
"""A mask: None (all visible), "causal", or a boolean array that broadcasts to (B, H, L, S)."""


def causal_mask(length: int, window: int | None = None, *, before: int = 0) -> mx.array:
    """(L, S) mask, S = before + L: each position sees itself and earlier ones, at most `window` positions in total."""
    query = mx.arange(before, before + length)[:, None]
    key = mx.arange(before + length)[None, :]
    visible = key <= query
    return visible if window is None else visible & (key > query - window)


def attention_mask(length: int, cache: Any, window: int | None) -> Mask:
    """The mask for `length` new tokens after those in `cache` (the cache of one layer, or None)."""
    if cache is not None:
        return cache.make_mask(length, return_array=False, window_size=window)
    if length == 1:
        return None
    if window is None or length <= window:
        return "causal"
    return causal_mask(length, window)
