"""Logits do not depend on the KV cache, on prefill chunks, or on padding in a batch."""

from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import BatchKVCache, BatchRotatingKVCache, KVCache, RotatingKVCache

from mlx_suite.modeling.gemma2 import Gemma2
from mlx_suite.modeling.llama import Llama
from tests.modeling.tiny import FAMILIES, WINDOW, largest_difference, tiny_model, tokens

TOLERANCE = 1e-4
"""Matrix products of other shapes sum in another order, which changes these logits by up to 3e-5."""

AROUND_THE_WINDOW = (WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW + 3)

MODELS = {family: tiny_model(family) for family in FAMILIES}
by_family = pytest.mark.parametrize("family", FAMILIES)


def in_chunks(model: Llama | Gemma2, row: mx.array, sizes: list[int], cache: list[Any] | None = None) -> mx.array:
    """Logits (B, L, V) of `row` fed in chunks of the given sizes."""
    cache = cache or model.make_cache()
    logits, start = [], 0
    for size in sizes:
        logits.append(model(row[:, start : start + size], cache=cache))
        start += size
    assert start == row.shape[1]
    return mx.concatenate(logits, axis=1)


@by_family
@pytest.mark.parametrize("length", AROUND_THE_WINDOW)
def test_prefill_with_a_cache_gives_the_same_logits(family: str, length: int) -> None:
    row = tokens(length)
    assert largest_difference(in_chunks(MODELS[family], row, [length]), MODELS[family](row)) <= TOLERANCE


@by_family
@pytest.mark.parametrize("length", AROUND_THE_WINDOW)
def test_decoding_token_by_token_gives_the_same_logits(family: str, length: int) -> None:
    row = tokens(length)
    assert largest_difference(in_chunks(MODELS[family], row, [1] * length), MODELS[family](row)) <= TOLERANCE


@by_family
@pytest.mark.parametrize("length", AROUND_THE_WINDOW)
def test_decoding_after_a_prompt_gives_the_same_logits(family: str, length: int) -> None:
    row = tokens(length + WINDOW + 2)
    pieces = [length] + [1] * (WINDOW + 2)
    assert largest_difference(in_chunks(MODELS[family], row, pieces), MODELS[family](row)) <= TOLERANCE


@by_family
@pytest.mark.parametrize("chunk", [2, 4, 5, 7, 13])
def test_prefill_chunks_need_not_divide_the_window(family: str, chunk: int) -> None:
    length = 3 * WINDOW + 5
    row = tokens(length, rows=2)
    pieces = [chunk] * (length // chunk) + [length % chunk] * (length % chunk > 0)
    assert largest_difference(in_chunks(MODELS[family], row, pieces), MODELS[family](row)) <= TOLERANCE


@by_family
@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 2 * WINDOW), min_size=1, max_size=10), seed=st.integers(0, 1000))
def test_a_sequence_may_be_fed_in_chunks_of_any_sizes(family: str, sizes: list[int], seed: int) -> None:
    row = tokens(sum(sizes), seed=seed)
    assert largest_difference(in_chunks(MODELS[family], row, sizes), MODELS[family](row)) <= TOLERANCE


def batch_caches(model: Llama | Gemma2, left_padding: list[int]) -> list[Any]:
    """Our caches as converted by mlx-lm's batch generation."""
    return [
        BatchRotatingKVCache(c.max_size, left_padding) if isinstance(c, RotatingKVCache) else BatchKVCache(left_padding)
        for c in model.make_cache()
    ]


@by_family
@pytest.mark.parametrize("pieces", [[21], [9] + [1] * 12, [8, 6, 1, 1, 5], [1] * 21], ids=str)
def test_a_left_padded_row_gives_the_logits_of_the_row_alone(family: str, pieces: list[int]) -> None:
    model, padding = MODELS[family], [0, 3, 7, 8]
    rows = [tokens(sum(pieces) - pad, seed=pad) for pad in padding]
    padded = mx.concatenate([mx.pad(row, [(0, 0), (pad, 0)]) for row, pad in zip(rows, padding, strict=True)])
    together = in_chunks(model, padded, pieces, cache=batch_caches(model, padding))
    assert mx.isfinite(together).all().item()
    for i, (row, pad) in enumerate(zip(rows, padding, strict=True)):
        assert largest_difference(together[i : i + 1, pad:], model(row)) <= TOLERANCE


def test_local_layers_cache_only_their_window() -> None:
    model = MODELS["gemma2"]
    cache = model.make_cache()
    in_chunks(model, tokens(60), [30] + [1] * 30, cache=cache)
    assert [type(layer) for layer in cache] == [RotatingKVCache, KVCache, RotatingKVCache]
    assert [layer.keys_and_values()[0].shape[2] for layer in cache] == [WINDOW, 60, WINDOW]


@by_family
def test_mlx_lms_generation_runs_on_our_models(family: str) -> None:
    """Compares greedy tokens of mlx-lm's own loop, with prefill chunks of 4, with a model without a cache."""
    model, prompt, count = MODELS[family], tokens(15)[0], 12
    written = [int(token) for token, _ in generate_step(prompt, model, max_tokens=count, prefill_step_size=4)]
    expected = prompt.tolist()
    for _ in range(count):
        expected.append(model(mx.array([expected]))[0, -1].argmax().item())
    assert written == expected[15:]
