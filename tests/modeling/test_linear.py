"""Products of a few rows: both forms give the same numbers, and only decode steps with large matrices change form."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.modeling import linear
from mlx_suite.modeling.linear import Embedding, Linear, product
from mlx_suite.runtime.few_rows import ROWS, FewRows

ALL = FewRows(transposed=ROWS, pads_one=True)


@pytest.fixture(autouse=True)
def every_form_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "few_rows", lambda: ALL)
    monkeypatch.setattr(linear, "LEAST_WEIGHTS", 1)


def draw(*shape: int) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(sum(shape)))


def forms_used(monkeypatch: pytest.MonkeyPatch, x: mx.array, weight: mx.array) -> list[tuple[int, ...]]:
    """Shapes of the inputs that were multiplied as (W·xᵀ)ᵀ."""
    used: list[tuple[int, ...]] = []

    def note(rows: mx.array, matrix: mx.array) -> mx.array:
        used.append(rows.shape)
        return (matrix @ rows.T).T

    monkeypatch.setattr(linear, "_transposed", note)
    product(x, weight)
    return used


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 32, 33])
@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (640, 8)])
def test_both_forms_are_the_same_product(rows: int, shape: tuple[int, int]) -> None:
    x, weight = draw(rows, 1, shape[1]), draw(*shape)
    found = product(x, weight)
    assert found.shape == (rows, 1, shape[0])
    np.testing.assert_allclose(found, x @ weight.T, rtol=0, atol=1e-5)


def test_one_row_is_padded_to_two_only_for_a_long_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    assert forms_used(monkeypatch, draw(1, 1, 8), draw(256, 8)) == [(2, 8)]
    assert forms_used(monkeypatch, draw(1, 1, 8), draw(255, 8)) == []


def test_more_rows_than_were_measured_and_longer_inputs_keep_their_form(monkeypatch: pytest.MonkeyPatch) -> None:
    assert forms_used(monkeypatch, draw(32, 1, 8), draw(16, 8)) == [(32, 8)]
    assert forms_used(monkeypatch, draw(33, 1, 8), draw(16, 8)) == []
    assert forms_used(monkeypatch, draw(2, 2, 8), draw(16, 8)) == []
    assert forms_used(monkeypatch, draw(4, 8), draw(16, 8)) == []


def test_small_matrices_keep_their_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "LEAST_WEIGHTS", 16 * 8 + 1)
    assert forms_used(monkeypatch, draw(4, 1, 8), draw(16, 8)) == []


def test_the_layers_are_mlx_s_layers_with_the_same_values() -> None:
    x = draw(4, 1, 16)
    layer, table = Linear(16, 24), Embedding(24, 16)
    np.testing.assert_allclose(layer(x), x @ layer.weight.T + layer.bias, rtol=0, atol=1e-5)
    np.testing.assert_allclose(table.as_linear(x), x @ table.weight.T, rtol=0, atol=1e-5)
