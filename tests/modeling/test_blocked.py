"""Copies of weights in blocks are used in a decode step, shared, and left out where memory is short."""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.modeling import blocked as module
from mlx_suite.modeling import linear
from mlx_suite.modeling.blocked import BlockCopies, Blocked, blocks_in_use, blocks_of
from mlx_suite.modeling.linear import product
from mlx_suite.runtime.few_rows import USUAL, Forms


@pytest.fixture(autouse=True)
def eight_rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Copies are worth it for up to eight rows, and for matrices with 64 outputs only."""

    def measured(outputs: int, inputs: int) -> Forms:
        return Forms(blocked=8) if outputs == 64 else USUAL

    monkeypatch.setattr(module, "measured", measured)
    monkeypatch.setattr(linear, "measured", measured)
    monkeypatch.setattr(module, "processes_here", lambda: 1)
    yield
    assert not module._made, "a copy outlives the test"


def block(weights: list[mx.array]) -> list[Blocked]:
    """All copies at once."""
    copies = BlockCopies(weights)
    copies.make_all()
    return copies.ready


def draw(*shape: int) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(sum(shape)))


def test_a_decode_step_of_few_rows_reads_the_copy_and_nothing_else_does(rows_by_blocks: list[int]) -> None:
    weight = draw(64, 16)
    copies = block([weight])
    inputs = [draw(1, 1, 16), draw(8, 1, 16), draw(9, 1, 16), draw(2, 3, 16)]
    with blocks_in_use(copies):
        found = [product(x, weight) for x in inputs]
        product(draw(1, 1, 16), draw(64, 16))
    product(inputs[0], weight)
    assert rows_by_blocks == [1, 8]
    for y, x in zip(found, inputs, strict=True):
        np.testing.assert_allclose(y, x @ weight.T, rtol=0, atol=1e-5)


def test_a_compiled_step_keeps_reading_the_copy(rows_by_blocks: list[int]) -> None:
    weight, x = draw(64, 16), draw(2, 1, 16)
    copies = block([weight])

    def step(x: mx.array) -> mx.array:
        with blocks_in_use(copies):
            return product(x, weight)

    compiled = mx.compile(step)
    for each in (x, 2 * x):
        np.testing.assert_allclose(compiled(each), each @ weight.T, rtol=0, atol=1e-5)
    assert rows_by_blocks == [2]


def test_only_matrices_for_which_it_is_worth_it_are_copied() -> None:
    weights = [draw(64, 16), draw(32, 16), draw(64, 16).astype(mx.bfloat16)]
    assert [each.weight is weights[0] for each in block(weights)] == [True]


def test_decode_steps_share_the_copies_and_the_last_one_frees_them() -> None:
    weight = draw(64, 16)
    one, other = block([weight]), block([weight])
    assert one[0] is other[0]
    del one
    assert len(module._made) == 1
    del other
    assert len(module._made) == 0


def test_without_memory_for_all_copies_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [draw(64, 16), draw(64, 32)]
    size = sum(each.nbytes for each in weights)
    monkeypatch.setattr(module, "available_memory", lambda: 3 * size - 1)
    assert block(weights) == []
    monkeypatch.setattr(module, "available_memory", lambda: 3 * size)
    assert len(block(weights)) == 2


def test_copies_share_the_memory_with_other_processes_and_keep_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [draw(64, 16)]
    monkeypatch.setattr(module, "available_memory", lambda: 3 * weights[0].nbytes)
    assert len(block(weights)) == 1
    monkeypatch.setattr(module, "processes_here", lambda: 2)
    assert block(weights) == []
    monkeypatch.setattr(module, "processes_here", lambda: 1)
    used = mx.get_active_memory()
    copies = [BlockCopies(weights, limit=used + size * weights[0].nbytes) for size in (2, 4)]
    for each in copies:
        each.make_all()
    assert [len(each.ready) for each in copies] == [0, 1]


def test_copies_stop_when_memory_has_become_short(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [draw(64, 16), draw(64, 8)]
    monkeypatch.setattr(module, "PER_STEP", 1)
    copies = BlockCopies(weights)
    assert not copies.make_some()
    monkeypatch.setattr(module, "available_memory", lambda: 0)
    assert not copies.make_some()
    assert copies.ready == []


def test_copies_are_made_a_few_at_a_time_and_used_when_all_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [draw(64, 16), draw(64, 8), draw(64, 4), draw(64, 2)]  # 4,096, 2,048, 1,024 and 512 bytes
    monkeypatch.setattr(module, "PER_STEP", 3000)
    copies = BlockCopies(weights)
    assert [(copies.make_some(), len(copies.ready)) for _ in range(4)] == [
        (False, 0),
        (False, 0),
        (True, 4),
        (False, 4),
    ]
    assert len(BlockCopies(weights).ready) == 4  # what another step has made is there at once
    assert copies.drop()
    assert not copies.drop()
    assert copies.ready == []


def test_a_step_that_fails_leaves_no_copy_in_use() -> None:
    weight = draw(64, 16)
    copies = block([weight])
    with pytest.raises(ValueError, match="matmul"), blocks_in_use(copies):
        product(draw(1, 1, 15), weight)
    assert blocks_of(weight) is None
