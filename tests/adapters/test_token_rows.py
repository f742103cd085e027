"""Trained rows of embedding and head: the same model before training, every file layout, and fusing."""

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from mlx_suite.adapters.attach import (
    AdapterConfig,
    adapter_of,
    apply_adapter,
    load_adapter,
    save_adapter,
    share_weights,
    write_adapter,
)
from mlx_suite.adapters.lora import add_adapters
from mlx_suite.adapters.token_rows import add_token_rows
from mlx_suite.checkpoints.quantization import quantize_base
from mlx_suite.checkpoints.weights import named_parameters
from mlx_suite.export.fuse import fuse
from mlx_suite.runtime.errors import UserError
from tests.modeling.tiny import largest_difference, tiny_model, tokens

CONFIG = AdapterConfig(rank=2, modules=("q_proj",))
IDS = (9, 4)
READ = mx.array([[4, 1, 9, 9, 30, 4]])
FAMILIES = {"tied": ("gemma2", True), "untied": ("llama", False)}


def made(family: str, bits: int = 0) -> nn.Module:
    name, tied = FAMILIES[family]
    model = tiny_model(name, tie_word_embeddings=tied)
    if bits:
        quantize_base(model, bits)
    return model


def with_rows(family: str, bits: int = 0, by: float = 0.5) -> nn.Module:
    model = made(family, bits)
    add_adapters(model, CONFIG)
    for layer in add_token_rows(model, IDS).values():
        layer.token_rows = layer.token_rows + by
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_untrained_rows_change_nothing_and_only_rows_and_adapters_are_trainable(family: str) -> None:
    model = with_rows(family, by=0.0)
    assert largest_difference(model(READ), made(family)(READ)) < 1e-5
    trained = {name for name, _ in tree_flatten(model.trainable_parameters()) if "lora" not in name}
    head = set() if family == "tied" else {"lm_head.token_rows"}
    assert trained == {"model.embed_tokens.token_rows"} | head


@pytest.mark.parametrize("family", FAMILIES)
def test_trained_rows_are_those_of_a_table_in_which_they_are_replaced(family: str) -> None:
    model, plain = with_rows(family), made(family)
    tables = [plain.model.embed_tokens] if family == "tied" else [plain.model.embed_tokens, plain.lm_head]
    for table in tables:
        table.weight[mx.array(IDS)] = table.weight[mx.array(IDS)] + 0.5
    assert largest_difference(model(READ), plain(READ)) < 1e-4
    assert largest_difference(model(READ), made(family)(READ)) > 0.1


@pytest.mark.parametrize("layout", ["mlx", "peft"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bits", [0, 4])
def test_trained_rows_survive_a_round_trip(layout: str, family: str, bits: int, tmp_path: Path) -> None:
    model = with_rows(family, bits)
    write_adapter(tmp_path / "a", adapter_of(model, CONFIG), layout, blocks=len(model.layers))
    again = made(family, bits)
    apply_adapter(again, load_adapter(tmp_path / "a"))
    assert mx.array_equal(again(READ), model(READ)).item()


def test_peft_names_the_rows_as_it_writes_them_itself(tmp_path: Path) -> None:
    write_adapter(tmp_path / "a", adapter_of(with_rows("untied"), CONFIG), "peft")
    settings = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert settings["trainable_token_indices"] == {"embed_tokens": [9, 4], "lm_head": [9, 4]}
    stored = mx.load(str(tmp_path / "a" / "adapter_model.safetensors"))
    assert {name: array.shape for name, array in stored.items() if "lora" not in name} == {
        "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": (2, 32),
        "base_model.model.lm_head.token_adapter.trainable_tokens_delta": (2, 32),
    }


def test_rows_for_another_vocabulary_are_refused_with_the_token(tmp_path: Path) -> None:
    model = made("tied")
    add_adapters(model, CONFIG)
    add_token_rows(model, (49,))
    save_adapter(tmp_path / "a", model, CONFIG, "base")
    small = tiny_model("gemma2", vocab_size=40)
    with pytest.raises(UserError) as caught:
        apply_adapter(small, load_adapter(tmp_path / "a"))
    assert caught.value.details == ("model.embed_tokens.token_rows has token 49, and the model has 40 rows",)


def test_rows_without_their_token_ids_are_refused(tmp_path: Path) -> None:
    save_adapter(tmp_path / "a", with_rows("tied"), CONFIG, "base")
    path = tmp_path / "a" / "adapter_config.json"
    settings = json.loads(path.read_text())
    del settings["mlx_suite"]["token_ids"]
    path.write_text(json.dumps(settings))
    with pytest.raises(UserError, match="do not match their token ids"):
        load_adapter(tmp_path / "a")


@pytest.mark.parametrize("family", FAMILIES)
def test_fusing_puts_the_rows_into_the_table(family: str) -> None:
    model = with_rows(family)
    expected = model(READ)
    assert fuse(model) > 0
    assert named_parameters(model).keys() == named_parameters(made(family)).keys()
    assert largest_difference(model(READ), expected) < 1e-4


def test_fusing_leaves_the_other_rows_of_a_quantized_table_as_they_are() -> None:
    model, before = with_rows("tied", bits=8), made("tied", bits=8).model.embed_tokens
    expected = model(READ)
    fuse(model)
    after = model.model.embed_tokens
    same = [mx.array_equal(before[name][10:], after[name][10:]).item() for name in ("weight", "scales", "biases")]
    assert same == [True, True, True]
    assert largest_difference(model(READ), expected) < 0.1


def test_models_that_share_their_weights_have_rows_of_their_own(tmp_path: Path) -> None:
    save_adapter(tmp_path / "a", with_rows("tied"), CONFIG, "base")
    base = made("tied")
    other = share_weights(base)
    apply_adapter(other, load_adapter(tmp_path / "a"))
    assert mx.array_equal(base(tokens(5)), made("tied")(tokens(5))).item()
    assert largest_difference(other(READ), base(READ)) > 0.1
