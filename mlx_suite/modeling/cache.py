"""KV caches for generating one sequence or one batch at a time.

They are mlx-lm's, so mlx-lm's own tools run on our models; the engine has its own per-slot caches.
"""

from collections.abc import Sequence
from typing import Any


def layer_caches(windows: Sequence[int | None]) -> list[Any]:
    """One cache per layer: a ring buffer of W keys for a layer with a sliding window, otherwise all keys."""
    # Imported here because mlx-lm takes seconds to import, and few uses of a model need these caches.
    from mlx_lm.models.cache import KVCache, RotatingKVCache

    return [KVCache() if w is None else RotatingKVCache(max_size=w, keep=0) for w in windows]
