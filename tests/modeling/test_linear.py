"""Products of a decode step: the measured form is used, and only there."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.modeling import linear
from mlx_suite.modeling.linear import Embedding, Linear, product
from mlx_suite.runtime.few_rows import USUAL, Form, Forms


@pytest.fixture(autouse=True)
def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the inputs that are multiplied in another form than the plain one."""
    shapes: list[tuple[int, ...]] = []

    def note(x: mx.array, weight: mx.array, form: Form) -> mx.array:
        assert form == "transposed"
        shapes.append(x.shape)
        return (weight @ x.T).T

    monkeypatch.setattr(linear, "measured", lambda outputs, inputs: Forms(by_rows=("transposed",) * 6))
    monkeypatch.setattr(linear, "multiply", note)
    return shapes


def draw(*shape: int) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(sum(shape)))


@pytest.mark.parametrize("rows", [1, 2, 8, 32])
def test_one_new_token_per_row_is_multiplied_in_the_measured_form(rows: int, used: list[tuple[int, ...]]) -> None:
    x, weight = draw(rows, 1, 16), draw(24, 16)
    found = product(x, weight)
    assert used == [(rows, 16)]
    assert found.shape == (rows, 1, 24)
    np.testing.assert_allclose(found, x @ weight.T, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(33, 1, 8), (2, 2, 8), (4, 8)])
def test_more_rows_than_were_measured_and_longer_inputs_stay_plain(
    shape: tuple[int, ...], used: list[tuple[int, ...]]
) -> None:
    x, weight = draw(*shape), draw(16, 8)
    np.testing.assert_array_equal(product(x, weight), x @ weight.T)
    assert used == []


def test_matrices_that_were_not_measured_stay_plain(
    monkeypatch: pytest.MonkeyPatch, used: list[tuple[int, ...]]
) -> None:
    monkeypatch.setattr(linear, "measured", lambda outputs, inputs: USUAL)
    product(draw(4, 1, 8), draw(16, 8))
    assert used == []


def test_the_layers_are_mlx_s_layers_with_the_same_values() -> None:
    x = draw(4, 1, 16)
    layer, table = Linear(16, 24), Embedding(24, 16)
    np.testing.assert_allclose(layer(x), x @ layer.weight.T + layer.bias, rtol=0, atol=1e-5)
    np.testing.assert_allclose(table.as_linear(x), x @ table.weight.T, rtol=0, atol=1e-5)
