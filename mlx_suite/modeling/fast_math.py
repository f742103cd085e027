"""Fast exp, tanh, sigmoid and softmax for MLX's CPU backend.

The CPU backend computes `exp` and functions based on it one element at a time, which dominates the training step of a
small model. Rational approximations fused by `mx.compile` are plain arithmetic that the C++ compiler vectorizes. On
Metal and CUDA the built-in operations are faster and are used instead.

Gradients are computed from the output, so that differentiation does not go through the polynomials.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx

# Each squaring doubles the rounding error; with fewer than three, the rational function's range would be too wide.
_SQUARINGS = 3


def _custom(function: Callable[[mx.array], mx.array]) -> Any:
    """`mx.custom_function`, whose type stub lacks the return type."""
    return mx.custom_function(function)


@mx.compile
def _exp(x: mx.array) -> mx.array:
    """e^x for x ≤ 0: Padé's [5/5] of e^(x/8), squared three times; absolute error 9e-7.

    The relative error is 3e-6 where e^x > 4e-5 and 3e-5 where e^x > 2e-9; smaller values vanish in an fp32 sum with
    e^0 = 1. Below -60 the result is 0: denormal numbers from masked scores would be a hundred times slower.
    """
    y = mx.maximum(x, -60.0) * (1.0 / 2**_SQUARINGS)
    y2 = y * y
    even = 30240.0 + y2 * (3360.0 + y2 * 30.0)
    odd = y * (15120.0 + y2 * (420.0 + y2))
    p = (even + odd) / (even - odd)
    for _ in range(_SQUARINGS):
        p = p * p
    return mx.where(x < -60.0, 0.0, p)


def _tanh(x: mx.array) -> mx.array:
    """tanh to 2e-7: with t = p/q = tanh(x/2) by Lambert's continued fraction, tanh x = 2pq / (p² + q²)."""
    h = mx.minimum(mx.maximum(x * 0.5, -4.5), 4.5)
    h2 = h * h
    p = h * (10395.0 + h2 * (1260.0 + h2 * 21.0))
    q = 10395.0 + h2 * (4725.0 + h2 * (210.0 + h2))
    return 2.0 * p * q / (p * p + q * q)


_compiled_tanh = mx.compile(_tanh)
_compiled_sigmoid = mx.compile(lambda x: 0.5 + 0.5 * _tanh(0.5 * x))


@_custom
def _cpu_tanh(x: mx.array) -> mx.array:
    return _compiled_tanh(x)


@_cpu_tanh.vjp
def _(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent * (1.0 - output * output)


@_custom
def _cpu_sigmoid(x: mx.array) -> mx.array:
    return _compiled_sigmoid(x)


@_cpu_sigmoid.vjp
def _(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent * output * (1.0 - output)


@_custom
def _cpu_softmax(x: mx.array) -> mx.array:
    e = _exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@_cpu_softmax.vjp
def _(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    weighted = output * cotangent
    return weighted - output * weighted.sum(axis=-1, keepdims=True)


@_custom
def _cpu_logsumexp(x: mx.array) -> mx.array:
    top = x.max(axis=-1, keepdims=True)
    return (top + mx.log(_exp(x - top).sum(axis=-1, keepdims=True))).squeeze(-1)


@_cpu_logsumexp.vjp
def _(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent[..., None] * _exp(x - output[..., None])


def built_in_is_slow(x: mx.array) -> bool:
    """Whether the approximations here are faster for x than MLX's own operations."""
    return x.dtype == mx.float32 and mx.default_device() == mx.Device(mx.cpu)


def exp_below_zero(x: mx.array) -> mx.array:
    """e^x for x ≤ 0, as in a softmax."""
    return _exp(x) if built_in_is_slow(x) else mx.exp(x)


def tanh(x: mx.array) -> mx.array:
    return _cpu_tanh(x) if built_in_is_slow(x) else mx.tanh(x)


def sigmoid(x: mx.array) -> mx.array:
    return _cpu_sigmoid(x) if built_in_is_slow(x) else mx.sigmoid(x)


def softmax(x: mx.array) -> mx.array:
    """Softmax over the last axis, accumulated in fp32, returned in x's dtype."""
    return _cpu_softmax(x) if built_in_is_slow(x) else mx.softmax(x, axis=-1, precise=True)


def logsumexp(x: mx.array) -> mx.array:
    """log Σ e^x over the last axis, in fp32."""
    x = x.astype(mx.float32)
    return _cpu_logsumexp(x) if built_in_is_slow(x) else mx.logsumexp(x, axis=-1)


def softcap(x: mx.array, cap: float) -> mx.array:
    """cap · tanh(x / cap): close to x for small x, within ±cap for all x (Gemma 2 report, section 2)."""
    return cap * tanh(x / cap)


def silu(x: mx.array) -> mx.array:
    """x · sigmoid(x)."""
    return x * sigmoid(x)


def gelu_tanh(x: mx.array) -> mx.array:
    """GELU in its tanh approximation, as in Gemma."""
    return 0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
