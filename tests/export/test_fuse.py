"""Fused models compute the same as model and adapter; if rounding would undo that, nothing is written."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.utils import load_model as load_model_by_mlx_lm

from mlx_suite.adapters.attach import AdapterConfig, adapter_of, apply_adapter, load_adapter, write_adapter
from mlx_suite.adapters.lora import adapted_layers, add_adapters
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.quantization import quantize_base, quantized_layers
from mlx_suite.checkpoints.save import save_model
from mlx_suite.checkpoints.weights import named_parameters
from mlx_suite.export.fuse import fuse, fuse_checkpoint, merged_weight
from mlx_suite.runtime.errors import UserError
from tests.adapters.test_lora import tiny_mixtral
from tests.export.adapted import ADAPTERS, adapted_model, shake
from tests.magpie.random_checkpoint import write_checkpoint
from tests.modeling.tiny import largest_difference, tiny_model, tokens

SHORT = tokens(5, rows=2)


def checkpoint(folder: Path, dtype: str, bits: int = 0) -> Path:
    """Write a model with a tokenizer, in a dtype or quantized."""
    folder.mkdir()
    base = write_checkpoint(folder)
    model = load_model(base, dtype=dtype)
    if bits:
        quantize_base(model, bits)
    save_model(folder, model, json.loads((base / "config.json").read_text()), tokenizer_from=base)
    return folder


def adapter_for(base: Path, folder: Path, size: float) -> nn.Module:
    """Write a random adapter with matrix entries of about `size`; returns the model with it."""
    model = load_model(base)
    config = AdapterConfig(rank=2, alpha=2.0, modules=("q_proj", "down_proj"))
    add_adapters(model, config)
    shake(model, size)
    write_adapter(folder, adapter_of(model, config), layout="mlx", blocks=2)
    return model


def test_lora_and_dora_are_fused_as_computed_by_hand() -> None:
    model = tiny_model("llama")
    add_adapters(model, AdapterConfig(rank=1, alpha=3.0, modules=("v_proj",), layers=(0,)))
    layer = model.layers[0].self_attn.v_proj
    before = layer.linear.weight
    layer.lora_a, layer.lora_b = mx.zeros((32, 1)), mx.zeros((1, 32))
    layer.lora_a[4, 0] = 2.0  # input 4
    layer.lora_b[0, 9] = 5.0  # output 9
    change = merged_weight(layer) - before
    assert change[9, 4].item() == pytest.approx(30.0)
    assert mx.abs(change).sum().item() == pytest.approx(30.0)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gemma3_text", "qwen3"])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_fused_model_computes_the_same_as_the_adapted_one(kind: str, family: str, tmp_path: Path) -> None:
    model = adapted_model(family, ADAPTERS[kind], tmp_path)
    adapted, count = model(tokens(9)), len(adapted_layers(model))
    assert fuse(model) == count
    assert adapted_layers(model) == {}
    assert largest_difference(model(tokens(9)), adapted) < 1e-4
    assert largest_difference(model(tokens(9)), tiny_model(family)(tokens(9))) > 0.5


@pytest.mark.parametrize("kind", ["LoRA", "DoRA", "embedding and head"])
def test_mlx_lm_computes_the_same_with_the_fused_model(kind: str, tmp_path: Path) -> None:
    model = adapted_model("gemma2", ADAPTERS[kind], tmp_path)
    adapted = model(SHORT)
    fuse(model)
    save_model(tmp_path / "fused", model)
    other, _ = load_model_by_mlx_lm(tmp_path / "fused")
    assert largest_difference(other(SHORT), adapted) < 1e-4


def test_biases_and_dtypes_are_those_of_the_base_model() -> None:
    model = tiny_model("llama", attention_bias=True)
    model.set_dtype(mx.bfloat16)
    model.layers[0].self_attn.q_proj.bias = mx.ones((64,), dtype=mx.bfloat16)
    before = {name: (array.shape, array.dtype) for name, array in named_parameters(model).items()}
    add_adapters(model, AdapterConfig())
    shake(model)
    fuse(model)
    assert {name: (array.shape, array.dtype) for name, array in named_parameters(model).items()} == before
    assert model.layers[0].self_attn.q_proj.bias.tolist() == [1.0] * 64


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_quantized_layers_are_quantized_again_with_their_settings(method: str) -> None:
    model = tiny_model("llama", hidden_size=64, intermediate_size=96)
    quantize_base(model, bits=8)
    packed = quantized_layers(model)
    before = model(tokens(9))
    add_adapters(model, AdapterConfig(rank=4, method=method))
    shake(model)
    adapted = model(tokens(9))
    fuse(model)
    assert quantized_layers(model) == packed
    merged = model(tokens(9))
    assert mx.abs(merged - adapted).mean().item() < 0.1 * mx.abs(adapted - before).mean().item()


def test_adapters_of_experts_are_fused() -> None:
    model = tiny_mixtral()
    add_adapters(model, AdapterConfig(rank=3, modules=("switch_mlp.up_proj",)))
    shake(model)
    adapted = model(tokens(9))
    assert fuse(model) == 2
    assert largest_difference(model(tokens(9)), adapted) < 1e-4


def test_a_checkpoint_is_fused_in_its_own_dtype_with_its_tokenizer(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", "bfloat16")
    model = adapter_for(base, tmp_path / "adapter", size=0.3)
    fused = fuse_checkpoint(base, tmp_path / "adapter", tmp_path / "out")
    assert (fused.layers, fused.dtype, fused.packed) == (4, "bfloat16", 0)
    assert 0 < fused.lost < 0.05
    merged = load_model(tmp_path / "out")
    ids = tokens(9)
    assert (
        mx.abs(merged(ids) - model(ids)).mean().item() < 0.05 * mx.abs(model(ids) - load_model(base)(ids)).mean().item()
    )
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_fused_model_that_equals_its_base_is_refused(tmp_path: Path) -> None:
    """mlx-lm#1172: bfloat16 has no value between a weight and one a thousandth larger."""
    base = checkpoint(tmp_path / "base", "bfloat16")
    adapter_for(base, tmp_path / "adapter", size=0.002)
    with pytest.raises(UserError, match="Rounding would lose") as caught:
        fuse_checkpoint(base, tmp_path / "adapter", tmp_path / "out")
    assert caught.value.fix.startswith("--dtype float32 keeps it")
    assert not (tmp_path / "out").exists()
    fused = fuse_checkpoint(base, tmp_path / "adapter", tmp_path / "out", dtype="float32")
    assert fused.lost < 0.05


def test_a_small_adapter_lost_in_4_bit_quantization_is_refused(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", "float32", bits=4)
    adapter_for(base, tmp_path / "adapter", size=0.03)
    with pytest.raises(UserError, match="the layers are quantized") as caught:
        fuse_checkpoint(base, tmp_path / "adapter", tmp_path / "out")
    assert caught.value.fix.startswith("--dequantize keeps it")
    fused = fuse_checkpoint(base, tmp_path / "adapter", tmp_path / "out", dequantize=True)
    assert (fused.packed, fused.lost < 0.01) == (0, True)
    assert "quantization" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_a_large_adapter_survives_8_bit_quantization(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", "float32", bits=8)
    adapter_for(base, tmp_path / "adapter", size=0.3)
    fused = fuse_checkpoint(base, tmp_path / "adapter", tmp_path / "out")
    assert fused.packed == len(quantized_layers(load_model(base, dequantize=False)))
    assert fused.lost < 0.2
    settings: dict[str, Any] = json.loads((tmp_path / "out" / "config.json").read_text())["quantization"]
    assert settings["bits"] == 8


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", "float32")
    adapted_model("llama", ADAPTERS["LoRA"], tmp_path / "other")
    with pytest.raises(UserError, match="does not fit"):
        fuse_checkpoint(base, tmp_path / "other" / "adapter", tmp_path / "out")


def test_a_fused_model_can_be_adapted_and_fused_again(tmp_path: Path) -> None:
    model = adapted_model("llama", ADAPTERS["LoRA"], tmp_path)
    fuse(model)
    once = model(tokens(9))
    apply_adapter(model, load_adapter(tmp_path / "adapter"))
    assert largest_difference(model(tokens(9)), once) > 0.5
    assert fuse(model) == 21
