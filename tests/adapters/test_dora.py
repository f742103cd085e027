"""DoRA compared with its dense formula and with mlx-lm's layer."""

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.tuner.dora import DoRALinear as TheirDoRALinear

from mlx_suite.modeling.dora import DoRALinear, dense_weight
from tests.modeling.tiny import largest_difference

INPUTS, OUTPUTS, RANK, SCALE = 64, 48, 4, 2.0


def random_linear(bits: int | None = None, bias: bool = False) -> nn.Module:
    mx.random.seed(0)
    linear = nn.Linear(INPUTS, OUTPUTS, bias=bias)
    linear.weight = mx.random.normal((OUTPUTS, INPUTS)) * 0.2
    if bias:
        linear.bias = mx.random.normal((OUTPUTS,))
    if bits:
        return nn.QuantizedLinear.from_linear(linear, group_size=32, bits=bits)
    linear.freeze()
    return linear


def random_dora(linear: nn.Module) -> DoRALinear:
    layer = DoRALinear(linear, RANK, dropout=0.0, scale=SCALE)
    mx.random.seed(1)
    layer.lora_a = mx.random.normal((INPUTS, RANK)) * 0.3
    layer.lora_b = mx.random.normal((RANK, OUTPUTS)) * 0.3
    layer.m = layer.m * mx.random.uniform(0.5, 1.5, (OUTPUTS,))
    return layer


def inputs() -> mx.array:
    return mx.random.normal((3, 7, INPUTS), key=mx.random.key(2))


def dense_formula(layer: DoRALinear, a: mx.array, b: mx.array, m: mx.array, x: mx.array) -> mx.array:
    """m · (W + scale · BA) / ‖W + scale · BA‖ as a dense matrix; the gradient treats the norm as a constant."""
    weight = dense_weight(layer.linear) + SCALE * (a @ b).T
    norm = mx.stop_gradient(mx.linalg.norm(weight, axis=1, keepdims=True))
    return x @ (m[:, None] * weight / norm).T


def test_dora_equals_a_hand_computed_example() -> None:
    linear = nn.Linear(2, 1, bias=False)
    linear.weight = mx.array([[3.0, 0.0]])
    layer = DoRALinear(linear, 1, dropout=0.0, scale=2.0)
    assert layer.m.tolist() == [3.0]
    layer.lora_a, layer.lora_b, layer.m = mx.array([[0.0], [1.0]]), mx.array([[2.0]]), mx.array([10.0])
    # W + 2·BA = (3, 4) with norm 5: 10 · (3, 4) / 5 = (6, 8).
    assert largest_difference(layer(mx.array([[1.0, 1.0]])), mx.array([[14.0]])) < 1e-5
    assert largest_difference(layer.fused(), mx.array([[6.0, 8.0]])) < 1e-5


@pytest.mark.parametrize("bits", [None, 3, 4, 6, 8])
def test_a_new_dora_layer_equals_its_base_layer(bits: int | None) -> None:
    linear = random_linear(bits, bias=True)
    layer = DoRALinear(linear, RANK, dropout=0.0, scale=SCALE)
    assert largest_difference(layer(inputs()), linear(inputs())) < 1e-5


@pytest.mark.parametrize("bits", [None, 3, 4, 6, 8])
def test_values_and_gradients_equal_those_of_the_dense_formula(bits: int | None) -> None:
    layer = random_dora(random_linear(bits))
    x = inputs()

    def ours(a: mx.array, b: mx.array, m: mx.array, x: mx.array) -> mx.array:
        layer.lora_a, layer.lora_b, layer.m = a, b, m
        return layer(x).square().mean()

    def plain(a: mx.array, b: mx.array, m: mx.array, x: mx.array) -> mx.array:
        return dense_formula(layer, a, b, m, x).square().mean()

    arrays = (layer.lora_a, layer.lora_b, layer.m)
    assert largest_difference(layer(x), dense_formula(layer, *arrays, x)) < 1e-5
    (value, found) = mx.value_and_grad(ours, argnums=(0, 1, 2, 3))(*arrays, x)
    (other, expected) = mx.value_and_grad(plain, argnums=(0, 1, 2, 3))(*arrays, x)
    assert largest_difference(value, other) < 1e-5
    assert all(largest_difference(one, two) < 1e-5 for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize("bits", [None, 4, 8])
def test_dora_equals_mlx_lms_layer(bits: int | None) -> None:
    linear = random_linear(bits, bias=True)
    layer = random_dora(linear)
    theirs = TheirDoRALinear.from_base(linear, r=RANK, dropout=0.0, scale=SCALE)
    theirs.lora_a, theirs.lora_b, theirs.m = layer.lora_a, layer.lora_b, layer.m
    assert largest_difference(layer(inputs()), theirs(inputs())) < 1e-5


def test_the_fused_weight_gives_the_same_output() -> None:
    layer = random_dora(random_linear(bias=True))
    assert largest_difference(inputs() @ layer.fused().T + layer.linear.bias, layer(inputs())) < 1e-5


def test_a_zero_row_gives_zero_and_a_finite_gradient() -> None:
    linear = random_linear()
    linear.weight = mx.concatenate([mx.zeros((1, INPUTS)), linear.weight[1:]])
    layer = DoRALinear(linear, RANK, dropout=0.0, scale=SCALE)
    value, gradient = nn.value_and_grad(layer, lambda x: layer(x).square().sum())(inputs())
    assert mx.isfinite(value).item()
    assert all(mx.all(mx.isfinite(gradient[leaf])).item() for leaf in ("lora_b", "m"))
    assert largest_difference(layer(inputs())[..., 0], mx.zeros((3, 7))) == 0.0


def test_a_layer_in_bfloat16_gives_bfloat16() -> None:
    linear = random_linear()
    linear.weight = linear.weight.astype(mx.bfloat16)
    layer = random_dora(linear)
    x = inputs().astype(mx.bfloat16)
    assert layer(x).dtype == mx.bfloat16
    expected = dense_formula(layer, layer.lora_a, layer.lora_b, layer.m, x.astype(mx.float32))
    assert largest_difference(layer(x), expected) < 0.03 * mx.abs(expected).max().item()
