"""Norms, embedding scale, activations and soft caps of the families, including rounding."""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlx_suite.modeling.decoder import GatedMLP, scale_in
from mlx_suite.modeling.fast_math import gelu_tanh, silu, softcap
from mlx_suite.modeling.gemma2 import UnitOffsetRMSNorm
from tests.modeling.tiny import largest_difference, tiny_config, tiny_model, tokens


@pytest.mark.parametrize(("d", "scale"), [(2304, 48.0), (3584, 59.75), (4608, 68.0)])
def test_the_embedding_scale_is_rounded_to_bf16(d: int, scale: float) -> None:
    assert scale_in(d**0.5, mx.bfloat16).item() == scale
    assert scale_in(d**0.5, mx.float32).item() == pytest.approx(d**0.5, rel=1e-7)


@pytest.mark.parametrize(
    ("x", "cap", "expected"), [(100.0, 50.0, 48.2014), (30.0, 30.0, 22.8478), (10.0, 50.0, 9.8688)]
)
def test_soft_capping_gives_the_known_values(x: float, cap: float, expected: float) -> None:
    assert softcap(mx.array([x, -x]), cap).tolist() == pytest.approx([expected, -expected], abs=5e-5)


def random_bf16(*shape: int) -> mx.array:
    return mx.random.normal(shape, dtype=mx.float32).astype(mx.bfloat16)


def normed(x: mx.array) -> mx.array:
    x = x.astype(mx.float32)
    return x * mx.rsqrt((x * x).mean(axis=-1, keepdims=True) + 1e-6)


def test_llama_rounds_to_bf16_before_the_weight() -> None:
    mx.random.seed(0)
    norm = nn.RMSNorm(64, eps=1e-6)
    norm.weight = random_bf16(64)
    x = random_bf16(32, 64)
    before = normed(x).astype(mx.bfloat16) * norm.weight
    after = (normed(x) * norm.weight.astype(mx.float32)).astype(mx.bfloat16)
    assert (before != after).any().item()
    assert mx.array_equal(norm(x), before).item()


def test_gemma_rounds_to_bf16_after_one_plus_the_weight() -> None:
    mx.random.seed(0)
    norm = UnitOffsetRMSNorm(64, eps=1e-6)
    norm.weight = 0.1 * random_bf16(64)
    x = random_bf16(32, 64)
    expected = (normed(x) * (1 + norm.weight.astype(mx.float32))).astype(mx.bfloat16)
    assert norm(x).dtype == mx.bfloat16
    assert mx.array_equal(norm(x), expected).item()


def test_gemmas_one_plus_weight_is_computed_in_fp32() -> None:
    """In bf16 1 + 2⁻⁹ is 1, which would make every output of the norm wrong by 0.2 %."""
    norm = UnitOffsetRMSNorm(4, eps=0.0)
    norm.weight = mx.full((4,), 2.0**-9, dtype=mx.bfloat16)
    x = mx.array([[1.0, -1.0, 1.0, -1.0]])
    assert norm(x).tolist()[0] == pytest.approx([1 + 2**-9, -(1 + 2**-9)] * 2, rel=1e-6)


def test_gemma_2_logits_stay_within_the_final_cap() -> None:
    model = tiny_model("gemma2", final_logit_softcapping=0.5)
    model.model.embed_tokens.weight = model.model.embed_tokens.weight * 10
    logits = model(tokens(20))
    assert 0.49 < mx.abs(logits).max().item() <= 0.5


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gemma3_text", "qwen3"])
def test_logits_have_the_dtype_of_the_weights(family: str) -> None:
    model = tiny_model(family)
    model.set_dtype(mx.bfloat16)
    assert model(tokens(9, rows=2)).dtype == mx.bfloat16
    assert model(tokens(9, rows=2)).shape == (2, 9, 50)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3_text", "qwen3"])
def test_the_head_may_be_tied_or_have_its_own_weights(family: str) -> None:
    hidden = mx.random.normal((2, 32))
    tied, own = (tiny_model(family, tie_word_embeddings=tie) for tie in (True, False))
    cap = tiny_config(family).final_logit_softcapping
    for model, weight in ((tied, tied.model.embed_tokens.weight), (own, own.lm_head.weight)):
        logits = hidden @ weight.T
        expected = logits if cap is None else cap * mx.tanh(logits / cap)
        assert mx.allclose(model.head(hidden), expected, atol=1e-5).item()


@pytest.mark.parametrize("activation", [silu, gelu_tanh])
def test_recomputing_the_activation_of_an_mlp_changes_no_gradient(activation: Callable[[mx.array], mx.array]) -> None:
    mlp = GatedMLP(tiny_config("gemma2"), activation)
    x = mx.random.normal((5, 32), key=mx.random.key(0))

    def formula(x: mx.array) -> mx.array:
        return mlp.down_proj(activation(mlp.gate_proj(x)) * mlp.up_proj(x))

    gradient, expected = (mx.grad(lambda x, each=each: each(x).square().sum())(x) for each in (mlp, formula))
    assert mx.abs(expected).max().item() > 0
    assert largest_difference(gradient, expected) <= 1e-6 * mx.abs(expected).max().item()
