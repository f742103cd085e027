"""Layers with the same input are one product in a decode step, and nothing else changes."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_suite.checkpoints.load import build_model
from mlx_suite.modeling import joined as module
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.joined import in_use, join, multiplied

SHAPE = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "gemma2": {"model_type": "gemma2", "sliding_window": 4, "attn_logit_softcapping": 50.0, "query_pre_attn_scalar": 8},
    "qwen3": {"model_type": "qwen3"},
}


def make(family: str = "llama", **changes: Any) -> Any:
    mx.random.seed(0)
    model = build_model(ModelConfig.from_dict(SHAPE | FAMILIES[family] | changes))
    mx.eval(model.parameters())
    return model


def decode(model: Any, tokens: list[int]) -> mx.array:
    """Logits (N, V) after each token, fed one at a time."""
    cache = model.make_cache()
    return mx.concatenate([model(mx.array([[token]]), cache=cache)[0] for token in tokens])


def weights(model: Any) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in tree_flatten(model.parameters())}


@pytest.mark.parametrize("family", FAMILIES)
def test_joined_products_give_the_same_logits(family: str) -> None:
    model = make(family)
    before = decode(model, [3, 7, 1, 9, 2, 30])
    joined = join(model)
    assert len(joined) == 4  # attention and MLP of two layers
    with in_use(joined):
        np.testing.assert_allclose(decode(model, [3, 7, 1, 9, 2, 30]), before, rtol=0, atol=1e-5)


def test_joining_keeps_names_values_and_memory() -> None:
    model = make(hidden_size=256, intermediate_size=512)
    names, memory = weights(model), mx.get_active_memory()
    joined = join(model)
    assert {name: value.tolist() for name, value in weights(model).items()} == {
        name: value.tolist() for name, value in names.items()
    }
    assert mx.get_active_memory() <= memory + 4096 * len(joined)


def test_several_decode_steps_share_the_joined_weights() -> None:
    model = make()
    first = join(model)
    assert {id(each) for each in join(model)} == {id(each) for each in first}
    del first
    memory = mx.get_active_memory()
    again = join(model)
    del again
    assert mx.get_active_memory() <= memory + 4096


@pytest.mark.parametrize(("tied", "head"), [(True, (40, 16)), (False, (40, 16))])
def test_a_decode_step_multiplies_by_joined_matrices_the_others_and_one_head(tied: bool, head: tuple[int, int]) -> None:
    model = make(tie_word_embeddings=tied)
    shapes = [each.shape for each in multiplied(model, join(model))]
    layer = [(64, 16), (48, 16), (16, 32), (16, 24)]  # q, k, v; gate, up; o; down
    assert sorted(shapes) == sorted(2 * layer + [head])


def test_saved_files_are_the_same(tmp_path: Path) -> None:
    model = make()
    model.save_weights(str(tmp_path / "before.safetensors"))
    join(model)
    model.save_weights(str(tmp_path / "after.safetensors"))
    assert (tmp_path / "before.safetensors").read_bytes() == (tmp_path / "after.safetensors").read_bytes()


def test_outside_the_decode_step_and_for_several_tokens_every_layer_computes_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make()
    joined = join(model)
    monkeypatch.setattr(module, "product", lambda x, weight: pytest.fail("joined"))
    decode(model, [3, 7])
    with in_use(joined):
        model(mx.array([[3, 7, 1]]))


def test_new_weights_take_effect() -> None:
    model = make()
    joined = join(model)
    layer = model.layers[0].self_attn.q_proj
    layer.weight = layer.weight * 2
    assert sum(each.is_current for each in joined) == 3
    alone = decode(model, [3, 7])
    with in_use(joined):
        np.testing.assert_allclose(decode(model, [3, 7]), alone, rtol=0, atol=1e-5)
    assert len(join(model)) == 4


def test_quantized_adapted_biased_and_large_layers_stay_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    quantized = make(hidden_size=64, intermediate_size=64)
    nn.quantize(quantized, group_size=32, bits=4)
    assert join(quantized) == []
    assert [type(each.module).__name__ for each in join(make(attention_bias=True))] == ["GatedMLP", "GatedMLP"]
    monkeypatch.setattr(module, "LARGEST", 24 * 16 - 1)
    assert join(make()) == []


def test_a_model_that_was_joined_trains_as_before() -> None:
    def gradients(model: Any) -> dict[str, mx.array]:
        _, found = nn.value_and_grad(model, lambda model: model(mx.array([[3]])).square().sum())(model)
        return dict(tree_flatten(found))

    model = make()
    expected = gradients(model)
    join(model)
    for name, value in gradients(model).items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-5, err_msg=name)
