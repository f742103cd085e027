"""The loss without all logits at a time is the plain loss, and so are its gradients, whatever the head is made of."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_suite.adapters.config import AdapterConfig
from mlx_suite.adapters.lora import adapted_layers, add_adapters
from mlx_suite.modeling.fast_math import softcap
from mlx_suite.modeling.head import SAME_SHAPE, Head, Matrix
from mlx_suite.training import cut_cross_entropy
from mlx_suite.training.cut_cross_entropy import head_loss, head_loss_alone, head_of
from mlx_suite.training.loss import token_losses
from mlx_suite.training.neftune import add_noise
from mlx_suite.training.train_step import summed_loss
from mlx_suite_apps.bench.head_memory import HeadShape, measure_head
from tests.modeling.tiny import tiny_model, tokens

V, D = 50, 32
WEIGHTS = [1.0, 0.5, 0.0, 2.0, 1.0, 0.0, 0.25]
"""Of seven rows: three chunks of the few rows that the tests allow at a time."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither seven rows nor 50 tokens of a vocabulary are multiples of these."""
    monkeypatch.setattr(cut_cross_entropy, "LOGITS", 3 * V)
    monkeypatch.setattr(cut_cross_entropy, "FEWEST_ROWS", 1)
    monkeypatch.setattr(cut_cross_entropy, "VOCAB_CHUNK", 16)


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
    """The loss and its gradients by everything trained, and by the hidden states."""
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


# ---- kinds of heads


def with_own_head() -> nn.Module:
    return tiny_model("llama", tie_word_embeddings=False)


def tied() -> nn.Module:
    return tiny_model("llama", tie_word_embeddings=True)


def capped() -> nn.Module:
    return tiny_model("gemma2", tie_word_embeddings=True, final_logit_softcapping=3.0)


def with_bias() -> nn.Module:
    model = tiny_model("gemma2", tie_word_embeddings=False, final_logit_softcapping=3.0)
    model.lm_head.bias = mx.random.normal((V,))
    return model


def packed(make: Callable[[], nn.Module] = with_own_head, **how: Any) -> nn.Module:
    model = make()
    head = model.lm_head if "lm_head" in model else model.model.embed_tokens
    nn.quantize(model, **{"group_size": 32, "bits": 4, **how}, class_predicate=lambda _, module: module is head)
    model.freeze()
    return model


def adapted(make: Callable[[], nn.Module], module: str, method: str = "lora") -> nn.Module:
    """A head whose adapter has learned something already."""
    model = make()
    add_adapters(model, AdapterConfig(method=method, rank=4, alpha=8.0, modules=(module,)))
    [layer] = adapted_layers(model).values()
    layer.lora_b = 0.3 * mx.random.normal(layer.lora_b.shape)
    layer.lora_a = layer.lora_a + 0.2
    if "m" in layer:
        layer.m = layer.m * mx.random.uniform(0.5, 1.5, layer.m.shape)
    return model


def noisy(make: Callable[[], nn.Module]) -> nn.Module:
    """NEFTune's noise is on what the embedding gives out, not on the head that it is too."""
    model = make()
    add_noise(model.model.embed_tokens, 5.0)
    return model


def frozen() -> nn.Module:
    model = capped()
    model.freeze()
    return model


HEADS: dict[str, Callable[[], nn.Module]] = {
    "its own matrix": with_own_head,
    "tied": tied,
    "capped": capped,
    "capped, with a bias": with_bias,
    "frozen": frozen,
    "packed": packed,
    "packed and tied": lambda: packed(tied),
    "packed in mxfp4": lambda: packed(mode="mxfp4"),
    "tied, with noise on the embedding": lambda: noisy(tied),
    "LoRA": lambda: adapted(with_own_head, "lm_head"),
    "LoRA, tied and capped": lambda: adapted(capped, "embed_tokens"),
    "LoRA, tied, with noise on the embedding": lambda: noisy(lambda: adapted(tied, "embed_tokens")),
    "LoRA on a packed one": lambda: adapted(packed, "lm_head"),
    "LoRA on a packed and tied one": lambda: adapted(lambda: packed(tied), "embed_tokens"),
    "DoRA": lambda: adapted(with_own_head, "lm_head", "dora"),
    "DoRA on a packed one, with a bias": lambda: adapted(lambda: packed(with_bias), "lm_head", "dora"),
}


@pytest.mark.parametrize("name", HEADS)
def test_loss_and_gradients_are_those_of_all_logits_at_once(name: str) -> None:
    model = HEADS[name]()
    expected = gradients(plain_loss, model, *rows())
    same(gradients(cut_loss, model, *rows()), expected)
    head = head_of(model)
    assert head is not None
    assert float(head_loss_alone(*rows(), head).item()) == pytest.approx(expected[0], rel=1e-5)


@pytest.mark.parametrize("name", ["capped", "LoRA on a packed and tied one", "DoRA"])
def test_it_can_be_compiled(name: str) -> None:
    model = HEADS[name]()
    batch = rows()
    compiled = mx.compile(lambda *batch: gradients_of(model, *batch))
    loss, by_parameters = compiled(*batch)
    expected = gradients(plain_loss, model, *batch)
    del expected[1]["hidden"]
    same((float(loss.item()), dict(tree_flatten(by_parameters))), expected)


def gradients_of(model: nn.Module, *batch: mx.array) -> Any:
    return nn.value_and_grad(model, cut_loss)(model, *batch)


def test_only_what_is_trained_has_a_gradient() -> None:
    learned = {name: sorted(head_of(make()).learned) for name, make in HEADS.items()}  # type: ignore[union-attr]
    assert learned["tied"] == ["0"]
    assert learned["capped, with a bias"] == ["0", "bias"]
    assert learned["frozen"] == learned["packed"] == learned["packed in mxfp4"] == []
    assert learned["LoRA"] == learned["LoRA on a packed and tied one"] == ["1"]
    assert learned["DoRA"] == ["1", "gain"]


# ---- rows


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_any_number_of_rows(count: int) -> None:
    same(gradients(cut_loss, capped(), *rows(count)), gradients(plain_loss, capped(), *rows(count)))


@pytest.mark.parametrize("chunk", [1, 7, 25, 49, 50, 51, 8192])
def test_any_cut_of_the_vocabulary(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut_cross_entropy, "VOCAB_CHUNK", chunk)
    same(gradients(cut_loss, capped(), *rows()), gradients(plain_loss, capped(), *rows()))


def test_rows_that_do_not_count_have_no_gradient() -> None:
    hidden, targets, _ = rows()
    loss, by_name = gradients(cut_loss, tied(), hidden, targets, mx.zeros((7,)))
    assert loss == 0.0
    assert all(not gradient.any().item() for gradient in by_name.values())
    _, by_name = gradients(cut_loss, tied(), *rows())
    counts: Any = (mx.abs(by_name["hidden"]).sum(axis=1) > 0).tolist()
    assert counts == [True, True, False, True, True, False, True]


def test_a_token_that_is_the_target_of_several_rows_gets_all_their_gradients() -> None:
    hidden, _, weights = rows()
    same_target = mx.array([5] * 7)
    same(
        gradients(cut_loss, tied(), hidden, same_target, weights),
        gradients(plain_loss, tied(), hidden, same_target, weights),
    )


def test_large_logits_neither_overflow_nor_lose_their_gradient() -> None:
    hidden, targets, weights = rows()
    loss, by_name = gradients(cut_loss, tied(), 1e3 * hidden, targets, weights)
    assert loss == pytest.approx(gradients(plain_loss, tied(), 1e3 * hidden, targets, weights)[0], rel=1e-5)
    assert all(mx.isfinite(gradient).all().item() for gradient in by_name.values())


def test_a_bf16_model_has_the_loss_and_gradients_of_its_numbers_in_fp32() -> None:
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
def test_a_whole_model_has_the_loss_and_gradients_of_its_logits(family: str, training: bool) -> None:
    """Of a tied matrix the gradient has two parts: from the head, and from the lookup."""
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


def of_the_zoo(name: str, **changes: Any) -> nn.Module:
    """A small random model of mlx-lm."""
    from importlib import import_module

    module = import_module(f"mlx_lm.models.{name}")
    mx.random.seed(3)
    model: nn.Module = module.Model(module.ModelArgs.from_dict(SMALL | {"model_type": name} | changes))
    return model


@pytest.mark.parametrize("name", SAME_SHAPE)
def test_models_of_mlx_lm_whose_head_is_known_have_the_logits_that_it_makes(name: str) -> None:
    model = of_the_zoo(name)
    head = head_of(model)
    assert head is not None
    hidden = model.model(tokens(5))
    [matrix] = head.matrices
    logits = hidden @ matrix.rows(slice(None)).T
    logits = logits if head.cap is None else softcap(logits, head.cap)
    assert mx.abs(model(tokens(5)) - logits).max().item() < 1e-5
    assert (head.cap is not None) == (name == "gemma2")


@pytest.mark.parametrize(("name", "changes"), [("cohere", {"logit_scale": 0.5}), ("stablelm", {})])
def test_a_model_whose_head_is_not_known_goes_the_plain_way(name: str, changes: dict[str, Any]) -> None:
    import_changes = {"use_qkv_bias": False, "partial_rotary_factor": 1.0, "use_qk_norm": False, "layer_norm_eps": 1e-5}
    model = of_the_zoo(name, **import_changes, **changes)
    assert head_of(model) is None
    index, targets, weights = mx.array([0, 3, 4]), mx.array([1, 2, 3]), mx.array([1.0, 0.0, 2.0])
    expected = (token_losses(model(tokens(5))[0][index], targets) * weights).sum()
    loss = summed_loss(model, tokens(5), None, index, targets, weights)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


def test_an_adapter_of_an_unknown_kind_goes_the_plain_way() -> None:
    class Other(nn.Linear):
        pass

    model = with_own_head()
    model.lm_head = Other(D, V, bias=False)
    assert head_of(model) is None


# ---- memory


@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("cap", [None, 30.0], ids=["plain", "capped"])
def test_the_head_takes_a_quarter_of_the_memory_at_most(
    trained: bool, cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An eighth of the rows at a time, as of 1024 rows at Llama 3's vocabulary.
    monkeypatch.setattr(cut_cross_entropy, "LOGITS", 64 * 8000)
    monkeypatch.setattr(cut_cross_entropy, "VOCAB_CHUNK", 512)
    measured = measure_head(HeadShape(vocabulary=8000, hidden=32, rows=512, cap=cap, trained=trained), rounds=1)
    for side in (measured.ours, measured.plain):
        assert side.loss_error < 1e-5
        assert side.gradient_error < 1e-5
    assert measured.ratio < 0.25


@pytest.mark.parametrize("how", ["bf16", "packed"])
def test_a_matrix_is_never_expanded_as_a_whole(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8000 rows of 256 numbers only a few are there in fp32 at a time, also where all is compiled into one.

    The CPU's queue holds a handful of parts ahead of the one at work, so the parts are small here.
    """
    monkeypatch.setattr(cut_cross_entropy, "LOGITS", 16 * 8000)
    monkeypatch.setattr(cut_cross_entropy, "VOCAB_CHUNK", 64)
    matrix = Matrix(weight=mx.random.normal((8000, 256)).astype(mx.bfloat16))
    if how == "packed":
        weight, scales, biases = mx.quantize(matrix.weight, group_size=64, bits=4)
        how_packed = {"group_size": 64, "bits": 4, "mode": "affine"}
        matrix = Matrix(weight=weight, packing={"scales": scales, "biases": biases}, how=how_packed)
    hidden, targets, weights = mx.random.normal((32, 256)), mx.arange(32), mx.ones((32,))
    step = mx.compile(mx.grad(lambda hidden: head_loss(hidden, targets, weights, Head(matrices=(matrix,)))))
    mx.eval(matrix.weight, matrix.packing, hidden, targets, weights)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(step(hidden))
    assert mx.get_peak_memory() - before < 0.5 * 4 * 8000 * 256
