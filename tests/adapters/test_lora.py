"""LoRA: hand-computed outputs, selection of layers by name, and trainable parameters."""

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.mixtral import Model as Mixtral
from mlx_lm.models.mixtral import ModelArgs

from mlx_suite.adapters.config import AdapterConfig
from mlx_suite.adapters.lora import adapted_layers, add_adapters, base_layer, layer_shapes, leaves, unfreeze_all
from mlx_suite.checkpoints.quantization import quantize_base, quantized_layers
from mlx_suite.checkpoints.weights import named_parameters
from mlx_suite.modeling.dora import dense_weight
from mlx_suite.runtime.errors import UserError
from mlx_suite.training.recompute import recompute
from tests.modeling.tiny import FAMILIES, largest_difference, tiny_model, tokens

WIDE = {"hidden_size": 64, "intermediate_size": 96}
"""Model dimensions that quantization groups divide: 64 and 96 = 3 · 32."""


class OneLayer(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(2, 2, bias=True)
        self.proj.weight = mx.array([[1.0, 2.0], [3.0, 4.0]])
        self.proj.bias = mx.array([0.5, -0.5])

    def __call__(self, x: mx.array) -> mx.array:
        return self.proj(x)


def trained(model: nn.Module) -> list[str]:
    return sorted(name for name, _ in tree_flatten(model.trainable_parameters()))


def randomize(model: nn.Module, seed: int = 1) -> None:
    mx.random.seed(seed)
    for layer in adapted_layers(model).values():
        for leaf in leaves(layer):
            layer[leaf] = layer[leaf] + 0.2 * mx.random.normal(layer[leaf].shape)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 3.0), (True, 6.0)])
def test_a_layer_adds_its_small_product_times_alpha_over_rank(rslora: bool, scale: float) -> None:
    model = OneLayer()
    add_adapters(model, AdapterConfig(rank=4, alpha=12.0, rslora=rslora, modules=("proj",)))
    model.proj.lora_a = mx.array([[1.0, 0.0, 0.0, 0.0], [-1.0, 2.0, 0.0, 0.0]])
    model.proj.lora_b = mx.array([[0.1, 0.2], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    # x = (1, 2): xA = (-1, 4, 0, 0), xAB = (-0.1, 3.8); Wx + bias = (5.5, 10.5).
    expected = mx.array([[5.5 + scale * -0.1, 10.5 + scale * 3.8]])
    assert largest_difference(model(mx.array([[1.0, 2.0]])), expected) < 1e-6


def test_rank_stabilized_scaling_divides_by_the_square_root_of_the_rank() -> None:
    assert AdapterConfig(rank=16, alpha=32.0).scale == 2.0
    assert AdapterConfig(rank=16, alpha=32.0, rslora=True).scale == 8.0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_new_adapter_does_not_change_the_logits(method: str, family: str) -> None:
    model = tiny_model(family)
    before = model(tokens(9))
    add_adapters(model, AdapterConfig(method=method))
    assert largest_difference(model(tokens(9)), before) < 2e-5


def test_only_the_adapters_matrices_are_trained() -> None:
    model = tiny_model("llama")
    report = add_adapters(model, AdapterConfig(rank=4, modules=("q_proj",), layers=(1,)))
    path = "model.layers.1.self_attn.q_proj"
    assert trained(model) == [f"{path}.lora_a", f"{path}.lora_b"]
    assert report.targets == (path,)
    assert report.parameters == 32 * 4 + 4 * 64


def test_initial_values_depend_only_on_the_seed_and_the_layer() -> None:
    path = "model.layers.1.self_attn.q_proj"

    def first(modules: tuple[str, ...], seed: int) -> mx.array:
        model = tiny_model("llama", seed=seed + 5)
        add_adapters(model, AdapterConfig(modules=modules), seed=seed)
        return named_parameters(model)[f"{path}.lora_a"]

    one = first(("q_proj",), 3)
    assert mx.array_equal(one, first(("v_proj", "q_proj"), 3)).item()
    assert not mx.array_equal(one, first(("q_proj",), 4)).item()
    assert mx.abs(one).max().item() <= 1 / 32**0.5


@pytest.mark.parametrize(
    ("modules", "layers", "targets"),
    [
        (("q_proj",), (0, 2), ["model.layers.0.self_attn.q_proj", "model.layers.2.self_attn.q_proj"]),
        (("self_attn.q_proj",), (1,), ["model.layers.1.self_attn.q_proj"]),
        (("model.layers.2.mlp.up_proj",), None, ["model.layers.2.mlp.up_proj"]),
        (("embed_tokens", "lm_head"), None, ["lm_head", "model.embed_tokens"]),
        (("mlp.down_proj", "embed_tokens"), (0,), ["model.embed_tokens", "model.layers.0.mlp.down_proj"]),
    ],
)
def test_a_name_selects_the_layers_whose_paths_end_with_it(
    modules: tuple[str, ...], layers: tuple[int, ...] | None, targets: list[str]
) -> None:
    report = add_adapters(tiny_model("llama"), AdapterConfig(modules=modules, layers=layers))
    assert sorted(report.targets) == targets
    assert report.unmatched == ()


def test_all_linear_selects_the_seven_layers_of_each_block_but_not_the_head() -> None:
    model = tiny_model("llama")
    report = add_adapters(model, AdapterConfig(modules=("all-linear",)))
    assert len(report.targets) == 3 * 7
    assert all(path.startswith("model.layers.") for path in report.targets)


def test_names_and_blocks_that_match_nothing_are_reported() -> None:
    config = AdapterConfig(modules=("q_proj", "proj", "c_attn", "lm_head"), layers=(0, 3, 40))
    report = add_adapters(tiny_model("gemma2"), config)
    assert report.targets == ("model.layers.0.self_attn.q_proj",)
    assert report.unmatched == ("proj", "c_attn", "lm_head", "layer 3", "layer 40")


def test_an_adapted_embedding_looks_up_the_changed_rows() -> None:
    model = tiny_model("llama")
    add_adapters(model, AdapterConfig(rank=2, alpha=2.0, modules=("embed_tokens",)))
    layer = model.model.embed_tokens
    layer.lora_b = mx.ones((2, 32))
    row = layer.embedding.weight[7] + layer.lora_a[7].sum()
    assert largest_difference(layer(mx.array([[7]]))[0, 0], row) < 1e-6


def test_a_tied_head_multiplies_by_the_adapted_embedding() -> None:
    model, dense = (tiny_model("llama", tie_word_embeddings=True) for _ in range(2))
    add_adapters(model, AdapterConfig(rank=2, alpha=4.0, modules=("embed_tokens",)))
    randomize(model)
    layer = model.model.embed_tokens
    dense.model.embed_tokens.weight = layer.embedding.weight + 2.0 * (layer.lora_a @ layer.lora_b)
    assert largest_difference(model(tokens(9)), dense(tokens(9))) < 1e-4
    assert largest_difference(model(tokens(9)), tiny_model("llama", tie_word_embeddings=True)(tokens(9))) > 0.1


def test_adapting_an_untied_head_leaves_the_embedding_unchanged() -> None:
    model = tiny_model("llama")
    add_adapters(model, AdapterConfig(rank=2, modules=("lm_head",)))
    assert trained(model) == ["lm_head.lora_a", "lm_head.lora_b"]


def test_dropout_is_disabled_outside_training() -> None:
    model = tiny_model("llama")
    add_adapters(model, AdapterConfig(dropout=0.5))
    randomize(model)
    model.eval()
    assert mx.array_equal(model(tokens(9)), model(tokens(9))).item()
    model.train()
    mx.random.seed(0)
    assert not mx.array_equal(model(tokens(9)), model(tokens(9))).item()


def test_a_second_adapter_is_refused() -> None:
    model = tiny_model("llama")
    add_adapters(model, AdapterConfig())
    with pytest.raises(UserError, match="already has adapters"):
        add_adapters(model, AdapterConfig())


def test_every_setting_out_of_range_is_listed() -> None:
    with pytest.raises(UserError) as caught:
        add_adapters(tiny_model("llama"), AdapterConfig(method="loha", rank=0, alpha=-1.0, dropout=1.0))
    assert caught.value.details == (
        "method is 'loha': expected one of lora, dora",
        "rank is 0: expected a whole number of at least 1",
        "alpha is -1.0: expected a number above 0",
        "dropout is 1.0: expected at least 0 and below 1",
    )


def test_dora_on_an_embedding_is_refused_and_the_model_is_unchanged() -> None:
    model = tiny_model("llama")
    with pytest.raises(UserError, match="embed_tokens is an embedding"):
        add_adapters(model, AdapterConfig(method="dora", modules=("q_proj", "embed_tokens")))
    assert adapted_layers(model) == {}


def test_full_finetuning_trains_embeddings_norms_and_head() -> None:
    model = tiny_model("llama")
    model.freeze()
    unfreeze_all(model)
    assert trained(model) == sorted(named_parameters(model))
    assert {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"} <= set(trained(model))


def test_full_finetuning_of_a_quantized_model_is_refused() -> None:
    model = tiny_model("llama", **WIDE)
    quantize_base(model, bits=4)
    with pytest.raises(UserError, match="23 of its layers are quantized"):
        unfreeze_all(model)


def test_a_base_is_quantized_with_the_largest_group_size_that_fits() -> None:
    model = tiny_model("llama", **WIDE, num_hidden_layers=1)
    assert quantize_base(model, bits=4) == []
    found = {path: (layer.group_size, layer.bits, layer.mode) for path, layer in quantized_layers(model).items()}
    assert found["model.layers.0.self_attn.q_proj"] == (64, 4, "affine")
    assert found["model.layers.0.mlp.down_proj"] == (32, 4, "affine")
    assert found["model.embed_tokens"] == found["lm_head"] == (64, 4, "affine")
    assert len(found) == 9


def test_layers_that_no_group_divides_stay_dense_and_are_named() -> None:
    model = tiny_model("llama", hidden_size=64, intermediate_size=48, num_hidden_layers=1)
    assert quantize_base(model, bits=8) == ["model.layers.0.mlp.down_proj"]
    assert isinstance(model.layers[0].mlp.down_proj, nn.Linear)


def test_a_base_must_be_quantized_before_it_is_adapted() -> None:
    model = tiny_model("llama", **WIDE)
    add_adapters(model, AdapterConfig())
    with pytest.raises(AssertionError):
        quantize_base(model, bits=4)


def loss_and_gradient(model: nn.Module) -> tuple[mx.array, dict[str, mx.array]]:
    def loss(ids: mx.array) -> mx.array:
        return nn.losses.cross_entropy(model(ids[:, :-1]), ids[:, 1:], reduction="mean")

    value, gradient = nn.value_and_grad(model, loss)(tokens(12, rows=2))
    return value, dict(tree_flatten(gradient))


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_the_gradient_with_a_quantized_base_equals_that_with_its_dequantized_weights(method: str) -> None:
    packed, dense = (tiny_model("llama", **WIDE) for _ in range(2))
    quantize_base(packed, bits=4)
    for (_, one), (_, other) in zip(packed.named_modules(), dense.named_modules(), strict=True):
        if "scales" in one:
            other.weight = dense_weight(one)
    for model in (packed, dense):
        add_adapters(model, AdapterConfig(method=method, rank=4))
        randomize(model)
    (one, gradient), (other, expected) = loss_and_gradient(packed), loss_and_gradient(dense)
    assert largest_difference(one, other) < 1e-5
    assert gradient.keys() == expected.keys()
    largest = max(mx.abs(array).max().item() for array in expected.values())
    assert all(largest_difference(gradient[name], expected[name]) < 5e-5 * largest for name in expected)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_a_quantized_base_works_with_recomputed_blocks(method: str) -> None:
    def trainee() -> nn.Module:
        model = tiny_model("gemma2", **WIDE)
        quantize_base(model, bits=4)
        add_adapters(model, AdapterConfig(method=method, rank=4))
        randomize(model)
        return model

    plain, again = trainee(), trainee()
    recompute(again.layers)
    (one, gradient), (other, expected) = loss_and_gradient(again), loss_and_gradient(plain)
    assert largest_difference(one, other) < 1e-6
    assert len(gradient) == 3 * 7 * (2 if method == "lora" else 3)
    assert all(largest_difference(gradient[name], expected[name]) < 1e-6 for name in expected)


def tiny_mixtral() -> nn.Module:
    mx.random.seed(0)
    return Mixtral(
        ModelArgs(
            model_type="mixtral",
            vocab_size=50,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            num_local_experts=4,
        )
    )


def test_each_expert_of_an_mlx_lm_model_has_its_own_matrices() -> None:
    model = tiny_mixtral()
    before = model(tokens(9))
    report = add_adapters(model, AdapterConfig(rank=3, modules=("switch_mlp.up_proj", "q_proj"), layers=(1,)))
    path = "model.layers.1.block_sparse_moe.switch_mlp.up_proj"
    assert sorted(report.targets) == [path, "model.layers.1.self_attn.q_proj"]
    shapes = {name: array.shape for name, array in named_parameters(model).items() if name.startswith(f"{path}.lora")}
    assert shapes == {f"{path}.lora_a": (4, 3, 32), f"{path}.lora_b": (4, 48, 3)}
    assert largest_difference(model(tokens(9)), before) == 0.0


def test_dora_on_experts_is_refused() -> None:
    with pytest.raises(UserError, match="not SwitchLinear"):
        add_adapters(tiny_mixtral(), AdapterConfig(method="dora", modules=("switch_mlp.up_proj",)))


def test_layer_shapes_predicts_the_shapes_of_an_adapter() -> None:
    for model in (tiny_model("llama", **WIDE), tiny_mixtral()):
        config = AdapterConfig(rank=3, modules=("q_proj", "up_proj", "embed_tokens"))
        add_adapters(model, config)
        for layer in adapted_layers(model).values():
            expected = layer_shapes(base_layer(layer), 3)
            assert {leaf: layer[leaf].shape for leaf in leaves(layer)} == {k: expected[k] for k in ("lora_a", "lora_b")}
