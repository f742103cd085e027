"""Time of a decode step after a long context, for several models in turn, and bytes of their KV caches.

The caches are filled with random keys and values: how long a step takes does not depend on what they hold, and no
prefill is needed.
"""

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import mlx.core as mx

from mlx_suite.modeling.decoder import Decoder


def filled_caches(model: Decoder, rows: int, context: int) -> list[Any]:
    """The model's KV caches after `context` tokens in each of `rows` rows, with random content."""
    dtype = model.model.embed_tokens.weight.dtype
    caches = model.make_cache()
    for number, cache in enumerate(caches):
        shape = (rows, model.config.num_key_value_heads, context, model.config.head_dim)
        keys, values = mx.random.normal((2, *shape), key=mx.random.key(number)).astype(dtype)
        cache.update_and_fetch(keys, values)
        mx.eval(cache.keys, cache.values)
    return caches


def kv_bytes_per_token(model: Decoder) -> int:
    """Bytes of keys and values that a token adds to one row of a cache, over all layers without a window."""
    caches = filled_caches(model, 1, 256)
    return sum(each.nbytes // each.shape[2] for cache in caches for each in (cache.keys, cache.values))


def decode_speeds(
    models: Mapping[str, Decoder], *, rows: int, context: int, steps: int, repeats: int = 3
) -> dict[str, float]:
    """Tokens per second over all rows, by model: the median of the steps of all repeats.

    Models take turns, so that a slower moment of the machine slows all of them.
    """
    caches = {name: filled_caches(model, rows, context) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(repeats):
        for name, model in models.items():
            # The first step may grow the caches.
            taken = [_step(model, caches[name], rows) for _ in range(steps + (repeat == 0))]
            seconds[name] += taken[-steps:]
    return {name: rows / median(taken) for name, taken in seconds.items()}


def _step(model: Decoder, caches: Sequence[Any], rows: int) -> float:
    """Seconds of one decode step, after which the caches are as before."""
    began = time.perf_counter()
    mx.eval(model(mx.zeros((rows, 1), mx.int32), cache=list(caches)))
    taken = time.perf_counter() - began
    for cache in caches:
        cache.trim(1)
    return taken
