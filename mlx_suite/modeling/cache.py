"""Key/value caches a model hands to whoever generates with it one sequence or one batch at a time.

They are mlx-lm's, so mlx-lm's own tools run on our models; the engine brings its own per-slot ones.
"""

from collections.abc import Sequence
from typing import Any


def layer_caches(windows: Sequence[int | None]) -> list[Any]:
    """One cache per layer: all keys where the layer sees all, a ring of W keys where it has a window."""
    # mlx-lm takes seconds to import, and most of what is done with a model needs no cache of its own.
    from mlx_lm.models.cache import KVCache, RotatingKVCache

    return [KVCache() if w is None else RotatingKVCache(max_size=w, keep=0) for w in windows]
