"""Attention in blocks has the values and gradients of attention over all pairs, in less memory."""

import gc
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlx_suite.modeling import block_attention
from mlx_suite.modeling.attention import attend
from mlx_suite.modeling.block_attention import attend_in_blocks
from mlx_suite.modeling.masks import RowMask
from mlx_suite.training.documents import DocumentMask
from tests.modeling.test_attention import naive
from tests.modeling.tiny import largest_difference

Attend = Callable[[mx.array, mx.array, mx.array], mx.array]


def random_inputs(heads: int, key_heads: int, length: int, rows: int = 1, dims: int = 8) -> list[mx.array]:
    """q, k, v, and weights of the output in a loss."""
    keys = mx.random.split(mx.random.key(length), 4)
    shapes = [(rows, count, length, dims) for count in (heads, key_heads, key_heads, heads)]
    return [mx.random.normal(shape, key=key) for shape, key in zip(shapes, keys, strict=True)]


def loss_and_gradients(attention: Attend, inputs: list[mx.array]) -> tuple[mx.array, list[mx.array]]:
    q, k, v, weights = inputs

    def loss(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return (attention(q, k, v) * weights).sum() / weights.size

    value, gradients = mx.value_and_grad(loss, (0, 1, 2))(q, k, v)
    return value, [gradient * weights.size for gradient in gradients]


def same(attention: Attend, other: Attend, inputs: list[mx.array], within: float = 1e-5) -> None:
    loss, gradients = loss_and_gradients(attention, inputs)
    expected, expected_gradients = loss_and_gradients(other, inputs)
    assert largest_difference(loss, expected) < within
    for gradient, right in zip(gradients, expected_gradients, strict=True):
        assert largest_difference(gradient, right) < within * max(1.0, mx.abs(right).max().item())


# ---- the same numbers


@settings(max_examples=60)
@given(
    size=st.integers(1, 12),
    heads=st.sampled_from([(1, 1), (4, 2), (6, 2), (3, 1)]),
    documents=st.lists(st.integers(1, 15), min_size=1, max_size=5),
    padding=st.integers(0, 5),
    window=st.none() | st.integers(1, 20),
    cap=st.none() | st.floats(0.5, 5.0),
    extra=st.integers(0, 9),
)
@example(size=4, heads=(4, 2), documents=[4, 4, 4], padding=0, window=None, cap=2.0, extra=0)  # edges of blocks
@example(size=4, heads=(4, 2), documents=[5, 3, 5], padding=3, window=5, cap=None, extra=0)
@example(size=1, heads=(1, 1), documents=[1, 1, 2], padding=1, window=1, cap=None, extra=0)
def test_loss_and_gradients_are_those_of_all_pairs(
    size: int,
    heads: tuple[int, int],
    documents: list[int],
    padding: int,
    window: int | None,
    cap: float | None,
    extra: int,
) -> None:
    """Two rows: one packed with `documents`, one with the same in reverse; no document is longer than `longest`."""
    length, longest = sum(documents) + padding, max(documents) + extra
    rows = [np.repeat([*range(1, len(each) + 1), 0], [*each, padding]) for each in (documents, documents[::-1])]
    document = mx.array(np.stack(rows).astype(np.uint16))
    q, k, v, weights = random_inputs(*heads, length, rows=2)
    weights = weights * (document > 0)[:, None, :, None]  # what padding attends to is of no importance
    cache = DocumentMask(document, longest)
    all_pairs = cache.make_mask(length, window_size=window)

    def in_blocks(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return attend_in_blocks(q, k, v, 0.7, cap, cache.row_mask(window), size)

    same(in_blocks, lambda q, k, v: naive(q, k, v, 0.7, cap, all_pairs), [q, k, v, weights])


@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("window", [None, 300, 30])
def test_rows_of_one_document_are_attended_in_blocks_too(cap: float | None, window: int | None) -> None:
    length = block_attention.BLOCK + 37
    mask = RowMask(length=length, window=window)
    same(
        lambda q, k, v: attend(q, k, v, 0.3, cap, mask),
        lambda q, k, v: naive(q, k, v, 0.3, cap, mask.array),
        random_inputs(4, 2, length),
    )


def test_padding_gives_finite_values() -> None:
    """Padding is longer than the longest document, so that some of it is out of reach."""
    cache = DocumentMask(mx.array([[1, 1, 2, 2, 0, 0, 0, 0, 0, 0]]), longest=2)
    q, k, v, weights = random_inputs(2, 1, 10)
    loss, gradients = loss_and_gradients(
        lambda q, k, v: attend_in_blocks(q, k, v, 1.0, 2.0, cache.row_mask(None), 3), [q, k, v, weights]
    )
    assert all(mx.isfinite(each).all().item() for each in [loss, *gradients])


def test_bf16_values_are_those_of_fp32_rounded() -> None:
    inputs = random_inputs(4, 2, 40)
    halves = [each.astype(mx.bfloat16) for each in inputs]
    mask = RowMask(length=40, window=11)
    out = attend_in_blocks(*halves[:3], 0.3, 5.0, mask, 8)
    assert out.dtype == mx.bfloat16
    same(
        lambda q, k, v: attend_in_blocks(q, k, v, 0.3, 5.0, mask, 8).astype(mx.float32),
        lambda q, k, v: attend_in_blocks(*(x.astype(mx.float32) for x in (q, k, v)), 0.3, 5.0, mask, 8),
        [*halves[:3], inputs[3]],
        within=0.02,
    )


# ---- less work


def visited(mask: RowMask, size: int) -> list[tuple[int, int]]:
    """Where the keys of each block start and stop."""
    q = mx.zeros((1, 2, mask.length, 4))
    attention = block_attention._Attention(scale=1.0, cap=None, mask=mask, size=size)
    return [(block.keys.start, block.keys.stop) for block in attention._blocks(q, q)]


def test_a_block_reads_no_key_after_it_nor_before_the_reach_of_its_queries() -> None:
    document = mx.array([[1, 1, 1, 2, 2, 2, 2, 3, 3, 3]])
    assert visited(RowMask(length=10), 4) == [(0, 4), (0, 8), (0, 10)]
    assert visited(RowMask(length=10, window=3), 4) == [(0, 4), (2, 8), (6, 10)]
    assert visited(DocumentMask(document).row_mask(None), 4) == [(0, 4), (0, 8), (0, 10)]
    assert visited(DocumentMask(document, longest=4).row_mask(None), 4) == [(0, 4), (1, 8), (5, 10)]
    assert visited(DocumentMask(document, longest=4).row_mask(2), 4) == [(0, 4), (3, 8), (7, 10)]


@pytest.mark.parametrize("cap", [None, 5.0])
def test_long_rows_take_a_fifth_of_the_memory_of_all_pairs(cap: float | None) -> None:
    mask = RowMask(length=1024)
    inputs = random_inputs(4, 2, 1024, dims=16)

    def peak(attention: Attend) -> int:
        function: Any = mx.compile(lambda *inputs: loss_and_gradients(attention, list(inputs)))
        mx.eval(inputs)
        gc.collect()
        mx.clear_cache()
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        mx.eval(function(*inputs))
        return mx.get_peak_memory() - before

    in_blocks = peak(lambda q, k, v: attend(q, k, v, 0.25, cap, mask))
    assert in_blocks < peak(lambda q, k, v: attend(q, k, v, 0.25, cap, mask.array)) / 5
