"""Memory and time of KV caches with and without ring buffers, prefill and decode, on our models and on mlx-lm's.

Shapes: K key-value heads, D head dimension.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlx_suite.engine.slots import slot_caches
from mlx_suite.modeling.head import head_function

RING, FULL, ENGINE, MLX_LM = "ours, ring", "ours, no ring", "our engine", "mlx-lm"
CHUNK = 512
"""Tokens of a prefill chunk whose work is measured."""
STORED_CHUNK = 2048
"""Tokens of a chunk that is only stored: mlx-lm's default for prefill."""


@dataclass(frozen=True, kw_only=True)
class CacheSide:
    """A model and the KV caches that it is given."""

    model: Any
    caches: list[Any]
    """One per layer."""


def cache_sides(ours: Any, theirs: Any) -> dict[str, CacheSide]:
    """Our model with ring buffers on its local layers and with whole caches, and mlx-lm's with the caches it makes."""
    from mlx_lm.models.cache import KVCache, make_prompt_cache

    return {
        RING: CacheSide(model=ours, caches=ours.make_cache()),
        FULL: CacheSide(model=ours, caches=[KVCache() for _ in ours.layers]),
        MLX_LM: CacheSide(model=theirs, caches=make_prompt_cache(theirs)),
    }


# ---- memory alone


def kv_bytes(ours: Any, theirs: Any, contexts: Sequence[int], *, chunk: int = STORED_CHUNK) -> Iterator[dict[str, Any]]:
    """Bytes of the bf16 cache arrays of one row by side and context: `prefill`, after all but the last token came in
    chunks, and `decode`, after the last one.

    No weights are used: the caches store zeros of the shape of keys and values.

    Args:
        contexts: In ascending order.
    """
    config = ours.config
    K, D = config.num_key_value_heads, config.head_dim

    def zeros(length: int) -> tuple[mx.array, mx.array]:
        return mx.zeros((1, K, length, D), mx.bfloat16), mx.zeros((1, K, length, D), mx.bfloat16)

    for name, side in cache_sides(ours, theirs).items():
        seen = 0
        for context in contexts:
            for length in [*_chunks(context - 1 - seen, chunk), 1]:
                for cache in side.caches:
                    cache.update_and_fetch(*zeros(length))
                    mx.eval(cache.keys, cache.values)
                if length > 1 or context - seen == 1:
                    before = _bytes(side.caches)
            seen = context
            yield {"side": name, "context": context, "prefill": before, "decode": _bytes(side.caches)}
        side.caches.clear()
        mx.clear_cache()
    for context in contexts:
        slots = slot_caches(ours, 1)
        for slot in slots:
            slot.reserve(context)
            slot.allocate(*zeros(1))
            mx.eval(slot.state)
        size = sum(slot.nbytes for slot in slots)
        yield {"side": ENGINE, "context": context, "prefill": size, "decode": size}


def _chunks(tokens: int, size: int) -> list[int]:
    """Lengths of chunks that sum to `tokens`."""
    return [min(size, tokens - start) for start in range(0, tokens, size)]


def _bytes(caches: Sequence[Any]) -> int:
    return sum(cache.nbytes for cache in caches)


# ---- work


def prefill_and_decode(
    sides: Mapping[str, CacheSide], tokens: mx.array, contexts: Sequence[int], *, steps: int, chunk: int = CHUNK
) -> Iterator[dict[str, Any]]:
    """Time and memory of each side at each context: the sides take turns, and go on where they were.

    Yields `prefill_seconds` since the last context, `prefill_peak_bytes` beyond what was allocated before,
    `decode_seconds` of the fastest of `steps` steps, and `difference`, the largest difference of the logits after
    prefill from those of the first side.

    Args:
        tokens: (1, L) with L at least the last context plus `steps`.
        contexts: Positions at which decoding begins, in ascending order; after `steps` tokens prefill goes on.
    """
    seen = 0
    for context in contexts:
        reference = None
        for name, side in sides.items():
            mx.clear_cache()
            mx.reset_peak_memory()
            before, began = mx.get_active_memory(), time.perf_counter()
            at = seen
            for length in _chunks(context - seen, chunk):
                logits = _feed(side, tokens[:, at : at + length])
                at += length
            prefill, peak = time.perf_counter() - began, mx.get_peak_memory() - before
            if reference is None:
                reference = logits
            difference: Any = mx.abs(logits - reference).max().item()
            decode = min(_decode(side, tokens[:, at : at + 1]) for at in range(context, context + steps))
            yield {
                "side": name,
                "context": context,
                "prefill_seconds": round(prefill, 4),
                "prefill_peak_bytes": peak,
                "decode_seconds": round(decode, 5),
                "kv_bytes": _bytes(side.caches),
                "difference": float(f"{difference:.3g}"),
            }
        seen = context + steps


def _feed(side: CacheSide, tokens: mx.array) -> mx.array:
    """Logits (V,) after the last of the tokens, in fp32."""
    hidden = side.model.model(tokens, cache=side.caches)
    head = head_function(side.model)
    assert head is not None
    logits = head(hidden[:, -1:])[0, 0].astype(mx.float32)
    mx.eval(logits, [(cache.keys, cache.values) for cache in side.caches])
    return logits


def _decode(side: CacheSide, token: mx.array) -> float:
    """Seconds of a decode step."""
    began = time.perf_counter()
    _feed(side, token)
    return time.perf_counter() - began
