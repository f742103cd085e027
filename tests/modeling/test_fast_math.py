"""The polynomial exponentials compared with exact values; MLX's own have errors up to 1e-6 on the CPU."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.modeling import fast_math as elementary
from mlx_suite.modeling.fast_math import gelu_tanh, logsumexp, sigmoid, silu, softmax, tanh

GRID = np.linspace(-30.0, 30.0, 100_001).astype(np.float32)
LOWEST = float(np.finfo(np.float32).min)


@pytest.fixture(autouse=True)
def polynomials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests the polynomials on every machine, although GPUs use the built-in operations."""
    monkeypatch.setattr(elementary, "built_in_is_slow", lambda x: x.dtype == mx.float32)


def exact_sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def exact_gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize(
    ("function", "exact", "tolerance"),
    [
        (tanh, np.tanh, 5e-7),
        (sigmoid, exact_sigmoid, 3e-7),
        (silu, lambda x: x * exact_sigmoid(x), 5e-6),
        (gelu_tanh, exact_gelu, 5e-6),
    ],
)
def test_a_function_is_within_tolerance_of_the_exact_one(
    function: Callable[[mx.array], mx.array], exact: Callable[[np.ndarray], np.ndarray], tolerance: float
) -> None:
    error = np.abs(np.array(function(mx.array(GRID))) - exact(GRID.astype(np.float64)))
    assert error.max() < tolerance


@pytest.mark.parametrize(
    ("function", "built_in"),
    [(tanh, mx.tanh), (sigmoid, mx.sigmoid), (silu, lambda x: x * mx.sigmoid(x))],
)
def test_gradients_equal_those_of_the_built_in_function(
    function: Callable[[mx.array], mx.array], built_in: Callable[[mx.array], mx.array]
) -> None:
    x = mx.array(GRID[::100])
    ours = mx.grad(lambda x: function(x).sum())(x)
    theirs = mx.grad(lambda x: built_in(x).sum())(x)
    assert mx.abs(ours - theirs).max().item() < 5e-6


def test_softmax_and_its_gradient_equal_the_built_in_ones() -> None:
    mx.random.seed(0)
    x, weights = 6 * mx.random.normal((7, 40)), mx.random.normal((7, 40))
    assert mx.allclose(softmax(x), mx.softmax(x, axis=-1), rtol=0, atol=2e-6).item()
    ours = mx.grad(lambda x: (softmax(x) * weights).sum())(x)
    theirs = mx.grad(lambda x: (mx.softmax(x, axis=-1) * weights).sum())(x)
    assert mx.allclose(ours, theirs, rtol=0, atol=5e-6).item()


def test_logsumexp_and_its_gradient_equal_the_built_in_ones() -> None:
    mx.random.seed(0)
    x = 6 * mx.random.normal((7, 40)) + 100
    assert mx.allclose(logsumexp(x), mx.logsumexp(x, axis=-1), rtol=0, atol=2e-5).item()
    ours = mx.grad(lambda x: logsumexp(x).sum())(x)
    theirs = mx.grad(lambda x: mx.logsumexp(x, axis=-1).sum())(x)
    assert mx.allclose(ours, theirs, rtol=0, atol=5e-6).item()


def test_a_masked_score_has_a_weight_of_exactly_0() -> None:
    x = mx.array([[0.5, LOWEST, 1.5, LOWEST]])
    weights = softmax(x).tolist()[0]
    assert (weights[1], weights[3]) == (0.0, 0.0)
    assert weights[0] + weights[2] == pytest.approx(1.0, abs=1e-6)
    assert mx.grad(lambda x: softmax(x)[0, 0])(x).tolist()[0][1] == 0.0


def test_a_fully_masked_row_gives_no_nan() -> None:
    x = mx.full((2, 4), LOWEST)
    assert softmax(x).tolist() == [[0.25] * 4] * 2
    assert mx.isfinite(mx.grad(lambda x: softmax(x)[:, 0].sum())(x)).all().item()


def test_scores_far_below_the_largest_become_zero_and_not_denormal() -> None:
    weights = softmax(mx.array([[0.0, -10.0, -20.0, -61.0, -100.0]])).tolist()[0]
    assert weights[1] == pytest.approx(4.5397867e-05, rel=5e-6)
    assert weights[2] == pytest.approx(2.0611536e-09, rel=5e-5)
    assert weights[3:] == [0.0, 0.0]


def test_nan_is_propagated() -> None:
    """A training run must be able to detect divergence."""
    for function in (tanh, sigmoid, silu, gelu_tanh, softmax, logsumexp):
        assert mx.isnan(function(mx.array([[float("nan"), 1.0]]))).any().item()


def test_other_dtypes_keep_the_built_in_functions() -> None:
    x = mx.array([1.0, -2.0], dtype=mx.bfloat16)
    for function, built_in in ((tanh, mx.tanh), (sigmoid, mx.sigmoid)):
        assert function(x).dtype == mx.bfloat16
        assert mx.array_equal(function(x), built_in(x)).item()
    assert logsumexp(x).dtype == mx.float32
