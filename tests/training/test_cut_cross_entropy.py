"""Chunked cross-entropy has the loss and gradients of the unchunked one, for every kind of head."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_suite.adapters.config import AdapterConfig
from mlx_suite.adapters.lora import adapted_layers, add_adapters
from mlx_suite.adapters.token_rows import add_token_rows
from mlx_suite.modeling.fast_math import softcap
from mlx_suite.modeling.head import SAME_SHAPE, Head, Matrix
from mlx_suite.training import chunked_head
from mlx_suite.training.cut_cross_entropy import head_loss, head_loss_alone, head_of
from mlx_suite.training.loss import token_losses
from mlx_suite.training.neftune import add_noise
from mlx_suite.training.train_step import summed_loss
from mlx_suite_apps.bench.head_memory import HeadShape, measure_head
from tests.modeling.tiny import tiny_model, tokens

V, D = 50, 32
WEIGHTS = [1.0, 0.5, 0.0, 2.0, 1.0, 0.0, 0.25]
"""Weights of seven rows, which make three chunks in these tests."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunk sizes that divide neither the seven rows nor the vocabulary of 50."""
    monkeypatch.setattr(chunked_head, "LOGITS", 3 * V)
    monkeypatch.setattr(chunked_head, "MIN_ROWS", 1)
    monkeypatch.setattr(chunked_head, "VOCAB_CHUNK", 16)


def plain_loss(model: nn.Module, hidden: mx.array, targets: mx.array, weights: mx.array) -> mx.array:
    return (token_losses(model.head(hidden), targets) * weights).sum()


def cut_loss(model: nn.Module, hidden: mx.array, targets: mx.array, weights: mx.array) -> mx.array:
    head = head_of(model)
    assert head is not None
    return head_loss(hidden, targets, weights, head)


def rows(count: int = 7, dtype: mx.Dtype = mx.float32) -> tuple[mx.array, mx.array, mx.array]:
    """Hidden states, targets and weights."""
    random = np.random.default_rng(2)
    hidden = mx.array(2 * random.normal(size=(count, D)).astype(np.float32)).astype(dtype)
    return hidden, mx.array(random.integers(0, V, count)), mx.array(WEIGHTS[:count])


def gradients(loss: Callable[..., mx.array], model: nn.Module, *batch: mx.array) -> tuple[float, dict[str, mx.array]]:
    """The loss and its gradients with respect to the trainable parameters and the hidden states."""
    hidden, targets, weights = batch

    def of_both(hidden: mx.array, parameters: dict[str, Any]) -> mx.array:
        model.update(parameters)
        return loss(model, hidden, targets, weights)

    parameters = model.trainable_parameters()
    value, (by_hidden, by_parameters) = mx.value_and_grad(of_both, argnums=(0, 1))(hidden, parameters)
    model.update(parameters)
    return float(value.item()), {"hidden": by_hidden} | dict(tree_flatten(by_parameters))


def same(one: tuple[float, Any], other: tuple[float, Any], within: float = 1e-5) -> None:
    assert one[0] == pytest.approx(other[0], rel=within, abs=within)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        expected = other[1][name]
        assert gradient.shape == expected.shape, name
        scale = max(1.0, mx.abs(expected).max().item())
        assert mx.abs(gradient - expected).max().item() < within * scale, name


# ---- kinds of head


def untied() -> nn.Module:
    return tiny_model("llama", tie_word_embeddings=False)


def tied() -> nn.Module:
    return tiny_model("llama", tie_word_embeddings=True)


def capped() -> nn.Module:
    return tiny_model("gemma2", tie_word_embeddings=True, final_logit_softcapping=3.0)


def with_bias() -> nn.Module:
    model = tiny_model("gemma2", tie_word_embeddings=False, final_logit_softcapping=3.0)
    model.lm_head.bias = mx.random.normal((V,))
    return model


def quantized(make: Callable[[], nn.Module] = untied, **how: Any) -> nn.Module:
    model = make()
    head = model.lm_head if "lm_head" in model else model.model.embed_tokens
    nn.quantize(model, **{"group_size": 32, "bits": 4, **how}, class_predicate=lambda _, module: module is head)
    model.freeze()
    return model


def adapted(make: Callable[[], nn.Module], module: str, method: str = "lora") -> nn.Module:
    """A head with a nonzero adapter."""
    model = make()
    add_adapters(model, AdapterConfig(method=method, rank=4, alpha=8.0, modules=(module,)))
    [layer] = adapted_layers(model).values()
    layer.lora_b = 0.3 * mx.random.normal(layer.lora_b.shape)
    layer.lora_a = layer.lora_a + 0.2
    if "m" in layer:
        layer.m = layer.m * mx.random.uniform(0.5, 1.5, layer.m.shape)
    return model


def with_rows(make: Callable[[], nn.Module]) -> nn.Module:
    """Tokens 3, 17 and 49 have trained rows; some of them are targets of `rows`."""
    model = make()
    model.freeze()
    [*_, layer] = add_token_rows(model, (17, 3, 49)).values()
    layer.token_rows = layer.token_rows + 0.2 * mx.random.normal(layer.token_rows.shape)
    return model


def noisy(make: Callable[[], nn.Module]) -> nn.Module:
    """NEFTune noise applies to the output of the embedding, not to the head tied to it."""
    model = make()
    add_noise(model.model.embed_tokens, 5.0)
    return model


def frozen() -> nn.Module:
    model = capped()
    model.freeze()
    return model


HEADS: dict[str, Callable[[], nn.Module]] = {
    "untied": untied,
    "tied": tied,
    "softcapped": capped,
    "softcapped, with a bias": with_bias,
    "frozen": frozen,
    "quantized": quantized,
    "quantized and tied": lambda: quantized(tied),
    "quantized to mxfp4": lambda: quantized(mode="mxfp4"),
    "tied, with noise on the embedding": lambda: noisy(tied),
    "LoRA": lambda: adapted(untied, "lm_head"),
    "LoRA, tied and softcapped": lambda: adapted(capped, "embed_tokens"),
    "LoRA, tied, with noise on the embedding": lambda: noisy(lambda: adapted(tied, "embed_tokens")),
    "LoRA on quantized": lambda: adapted(quantized, "lm_head"),
    "LoRA on quantized and tied": lambda: adapted(lambda: quantized(tied), "embed_tokens"),
    "trained rows": lambda: with_rows(untied),
    "trained rows, tied and softcapped": lambda: with_rows(capped),
    "trained rows, with a bias": lambda: with_rows(with_bias),
    "trained rows on quantized and tied": lambda: with_rows(lambda: quantized(tied)),
    "trained rows, tied, with noise on the embedding": lambda: noisy(lambda: with_rows(tied)),
    "DoRA": lambda: adapted(untied, "lm_head", "dora"),
    "DoRA on quantized, with a bias": lambda: adapted(lambda: quantized(with_bias), "lm_head", "dora"),
}


@pytest.mark.parametrize("name", HEADS)
def test_loss_and_gradients_match_the_unchunked_loss(name: str) -> None:
    model = HEADS[name]()
    expected = gradients(plain_loss, model, *rows())
    same(gradients(cut_loss, model, *rows()), expected)
    head = head_of(model)
    assert head is not None
    assert float(head_loss_alone(*rows(), head).item()) == pytest.approx(expected[0], rel=1e-5)


@pytest.mark.parametrize("name", ["softcapped", "LoRA on quantized and tied", "DoRA", "trained rows"])
def test_the_loss_can_be_compiled(name: str) -> None:
    model = HEADS[name]()
    batch = rows()
    compiled = mx.compile(lambda *batch: gradients_of(model, *batch))
    loss, by_parameters = compiled(*batch)
    expected = gradients(plain_loss, model, *batch)
    del expected[1]["hidden"]
    same((float(loss.item()), dict(tree_flatten(by_parameters))), expected)


def gradients_of(model: nn.Module, *batch: mx.array) -> Any:
    return nn.value_and_grad(model, cut_loss)(model, *batch)


def test_only_trainable_arrays_have_a_gradient() -> None:
    learned = {name: sorted(head_of(make()).learned) for name, make in HEADS.items()}  # type: ignore[union-attr]
    assert learned["tied"] == ["0"]
    assert learned["softcapped, with a bias"] == ["0", "bias"]
    assert learned["frozen"] == learned["quantized"] == learned["quantized to mxfp4"] == []
    assert learned["LoRA"] == learned["LoRA on quantized and tied"] == ["1"]
    assert learned["DoRA"] == ["1", "gain"]
    assert learned["trained rows"] == learned["trained rows on quantized and tied"] == ["own"]


# ---- rows


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_any_number_of_rows_can_be_chunked(count: int) -> None:
    same(gradients(cut_loss, capped(), *rows(count)), gradients(plain_loss, capped(), *rows(count)))


@pytest.mark.parametrize("chunk", [1, 7, 25, 49, 50, 51, 8192])
def test_the_vocabulary_can_be_chunked_at_any_size(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_head, "VOCAB_CHUNK", chunk)
    for model in (capped(), with_rows(capped)):
        same(gradients(cut_loss, model, *rows()), gradients(plain_loss, model, *rows()))


def test_rows_of_weight_0_have_no_gradient() -> None:
    hidden, targets, _ = rows()
    loss, by_name = gradients(cut_loss, tied(), hidden, targets, mx.zeros((7,)))
    assert loss == 0.0
    assert all(not gradient.any().item() for gradient in by_name.values())
    _, by_name = gradients(cut_loss, tied(), *rows())
    counts: Any = (mx.abs(by_name["hidden"]).sum(axis=1) > 0).tolist()
    assert counts == [True, True, False, True, True, False, True]


def test_a_token_that_is_the_target_of_several_rows_gets_the_sum_of_their_gradients() -> None:
    hidden, _, weights = rows()
    same_target = mx.array([5] * 7)
    same(
        gradients(cut_loss, tied(), hidden, same_target, weights),
        gradients(plain_loss, tied(), hidden, same_target, weights),
    )


def test_large_logits_have_a_finite_loss_and_gradient() -> None:
    hidden, targets, weights = rows()
    loss, by_name = gradients(cut_loss, tied(), 1e3 * hidden, targets, weights)
    assert loss == pytest.approx(gradients(plain_loss, tied(), 1e3 * hidden, targets, weights)[0], rel=1e-5)
    assert all(mx.isfinite(gradient).all().item() for gradient in by_name.values())


def test_a_bf16_model_has_the_loss_and_gradients_of_its_weights_cast_to_fp32() -> None:
    model = capped()
    model.set_dtype(mx.bfloat16)
    hidden, targets, weights = rows(dtype=mx.bfloat16)
    loss, by_name = gradients(cut_loss, model, hidden, targets, weights)
    assert by_name["hidden"].dtype == mx.bfloat16
    model.set_dtype(mx.float32)
    expected = gradients(plain_loss, model, hidden.astype(mx.float32), targets, weights)
    assert loss == pytest.approx(expected[0], rel=1e-5)
    weight = "model.embed_tokens.weight"
    assert by_name[weight].dtype == mx.float32
    assert mx.abs(by_name[weight] - expected[1][weight]).max().item() < 1e-5


# ---- models


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("training", [True, False])
def test_a_complete_model_has_the_loss_and_gradients_of_its_logits(family: str, training: bool) -> None:
    """The gradient of a tied matrix has two terms, from the head and from the lookup."""
    model = tiny_model(family, tie_word_embeddings=True)
    model.train(training)
    read = tokens(8, rows=2)
    index, targets, weights = mx.array([0, 3, 9, 15, 0, 4, 5]), rows()[1], mx.array(WEIGHTS)

    def plain(model: nn.Module) -> mx.array:
        return (token_losses(model(read).reshape(-1, V)[index], targets) * weights).sum()

    loss, by_name = nn.value_and_grad(model, lambda m: summed_loss(m, read, None, index, targets, weights))(model)
    expected, expected_by_name = nn.value_and_grad(model, plain)(model)
    same(
        (float(loss.item()), dict(tree_flatten(by_name))),
        (float(expected.item()), dict(tree_flatten(expected_by_name))),
    )


SMALL = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "norm_epsilon": 1e-5,
    "norm_eps": 1e-5,
    "layer_norm_epsilon": 1e-5,
    "rope_theta": 1e4,
    "max_position_embeddings": 64,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "rope_parameters": {"rope_theta": 1e4, "llama_4_scaling_beta": 0.0, "original_max_position_embeddings": 64},
    "sliding_window_pattern": 1,
}


def mlx_lm_model(name: str, **changes: Any) -> nn.Module:
    """A small random mlx-lm model."""
    from importlib import import_module

    module = import_module(f"mlx_lm.models.{name}")
    mx.random.seed(3)
    model: nn.Module = module.Model(module.ModelArgs.from_dict(SMALL | {"model_type": name} | changes))
    return model


@pytest.mark.parametrize("name", SAME_SHAPE)
def test_known_heads_reproduce_the_logits_of_mlx_lm_models(name: str) -> None:
    model = mlx_lm_model(name)
    head = head_of(model)
    assert head is not None
    hidden = model.model(tokens(5))
    [matrix] = head.matrices
    logits = hidden @ matrix.rows(slice(None)).T
    logits = logits if head.cap is None else softcap(logits, head.cap)
    assert mx.abs(model(tokens(5)) - logits).max().item() < 1e-5
    assert (head.cap is not None) == (name == "gemma2")


@pytest.mark.parametrize(("name", "changes"), [("cohere", {"logit_scale": 0.5}), ("stablelm", {})])
def test_a_model_with_an_unknown_head_uses_its_full_logits(name: str, changes: dict[str, Any]) -> None:
    common = {"use_qkv_bias": False, "partial_rotary_factor": 1.0, "use_qk_norm": False, "layer_norm_eps": 1e-5}
    model = mlx_lm_model(name, **common, **changes)
    assert head_of(model) is None
    index, targets, weights = mx.array([0, 3, 4]), mx.array([1, 2, 3]), mx.array([1.0, 0.0, 2.0])
    expected = (token_losses(model(tokens(5))[0][index], targets) * weights).sum()
    loss = summed_loss(model, tokens(5), None, index, targets, weights)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_an_adapter_of_an_unknown_type_has_no_head() -> None:
    class Other(nn.Linear):
        pass

    model = untied()
    model.lm_head = Other(D, V, bias=False)
    assert head_of(model) is None


# ---- memory


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("cap", [None, 30.0], ids=["plain", "softcapped"])
def test_the_chunked_loss_takes_at_most_a_quarter_of_the_memory(
    trained: bool, cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Chunks of an eighth of the rows, as for 1024 rows and Llama 3's vocabulary.
    monkeypatch.setattr(chunked_head, "LOGITS", 64 * 8000)
    monkeypatch.setattr(chunked_head, "VOCAB_CHUNK", 512)
    measured = measure_head(HeadShape(vocabulary=8000, hidden=32, rows=512, cap=cap, trained=trained), rounds=1)
    for side in (measured.ours, measured.plain):
        assert side.loss_error < 1e-5
        assert side.gradient_error < 1e-5
    assert measured.ratio < 0.25


@pytest.mark.parametrize("how", ["bf16", "quantized"])
def test_the_matrix_is_never_fully_expanded_to_fp32(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only slices of the (8000, 256) matrix are in fp32 at any time, even in one compiled graph.

    The slices are small because the CPU's queue runs a few of them ahead.
    """
    monkeypatch.setattr(chunked_head, "LOGITS", 16 * 8000)
    monkeypatch.setattr(chunked_head, "VOCAB_CHUNK", 64)
    matrix = Matrix(weight=mx.random.normal((8000, 256)).astype(mx.bfloat16))
    if how == "quantized":
        weight, scales, biases = mx.quantize(matrix.weight, group_size=64, bits=4)
        how_quantized = {"group_size": 64, "bits": 4, "mode": "affine"}
        matrix = Matrix(weight=weight, packing={"scales": scales, "biases": biases}, how=how_quantized)
    hidden, targets, weights = mx.random.normal((32, 256)), mx.arange(32), mx.ones((32,))
    step = mx.compile(mx.grad(lambda hidden: head_loss(hidden, targets, weights, Head(matrices=(matrix,)))))
    mx.eval(matrix.weight, matrix.packing, hidden, targets, weights)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(step(hidden))
    assert mx.get_peak_memory() - before < 0.5 * 4 * 8000 * 256
