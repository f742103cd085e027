"""Saving checkpoints: files, index, and which folders may be replaced."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
import safetensors

from mlx_suite.checkpoints.load import build_model, load_model
from mlx_suite.checkpoints.safetensors_header import read_headers
from mlx_suite.checkpoints.save import save_model
from mlx_suite.checkpoints.weights import named_parameters
from mlx_suite.runtime.errors import UserError
from tests.modeling.tiny import FAMILIES, tiny_config, tiny_model, tokens


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_loads_bit_for_bit(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    save_model(tmp_path / "model", model)
    again = load_model(tmp_path / "model")
    saved, loaded = named_parameters(model), named_parameters(again)
    assert list(saved) == list(loaded)
    assert all(mx.array_equal(saved[name], loaded[name]).item() for name in saved)
    assert again.config == model.config
    assert mx.array_equal(again(tokens(20)), model(tokens(20))).item()


def test_a_small_model_is_one_file_that_transformers_can_load(tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny_model("llama"))
    assert names(tmp_path / "model") == ["config.json", "model.safetensors"]
    with safetensors.safe_open(tmp_path / "model" / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_large_model_is_split_into_shards_with_an_index(tmp_path: Path) -> None:
    model = tiny_model("llama")
    save_model(tmp_path / "model", model, max_shard_bytes=25_000)
    shards = [f"model-0000{i}-of-00007.safetensors" for i in range(1, 8)]
    assert names(tmp_path / "model") == ["config.json", *shards, "model.safetensors.index.json"]
    assert all((tmp_path / "model" / shard).stat().st_size < 27_000 for shard in shards)
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())
    stored = read_headers(tmp_path / "model")
    assert index["weight_map"] == {name: header.file.name for name, header in sorted(stored.items())}
    assert index["metadata"] == {"total_size": sum(array.nbytes for array in named_parameters(model).values())}
    assert mx.array_equal(load_model(tmp_path / "model")(tokens(9)), model(tokens(9))).item()


def test_a_tensor_larger_than_a_shard_gets_its_own_file(tmp_path: Path) -> None:
    model = tiny_model("llama")
    save_model(tmp_path / "model", model, max_shard_bytes=1)
    assert len(list((tmp_path / "model").glob("*.safetensors"))) == len(named_parameters(model))


def test_a_narrower_dtype_halves_the_file(tmp_path: Path) -> None:
    save_model(tmp_path / "wide", tiny_model("llama"))
    save_model(tmp_path / "narrow", tiny_model("llama"), dtype="bfloat16")
    assert {header.dtype for header in read_headers(tmp_path / "narrow").values()} == {"BF16"}
    wide, narrow = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("wide", "narrow"))
    assert narrow < 0.55 * wide


def test_a_checkpoint_may_overwrite_the_one_it_was_loaded_from(tmp_path: Path) -> None:
    save_model(tmp_path / "model", tiny_model("llama"), max_shard_bytes=25_000)
    model = load_model(tmp_path / "model", lazy=True)
    save_model(tmp_path / "model", model)
    assert names(tmp_path / "model") == ["config.json", "model.safetensors"]
    assert mx.array_equal(load_model(tmp_path / "model")(tokens(9)), tiny_model("llama")(tokens(9))).item()


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "home" / "photos").mkdir(parents=True)
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="photos, thesis.tex") as error:
        save_model(tmp_path / "home", tiny_model("llama"))
    assert error.value.where == str(tmp_path / "home")
    assert names(tmp_path / "home") == ["photos", "thesis.tex"]


def test_a_write_error_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "model", tiny_model("llama"))

    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("[write] Unable to write 131072 bytes to file.")

    monkeypatch.setattr(mx, "save_safetensors", full)
    with pytest.raises(UserError, match="disk is full"):
        save_model(tmp_path / "model", tiny_model("llama", seed=1))
    assert names(tmp_path) == ["model"]
    assert mx.array_equal(load_model(tmp_path / "model")(tokens(9)), tiny_model("llama")(tokens(9))).item()


def test_tokenizer_and_generation_settings_are_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("tokenizer.json", "generation_config.json", "chat_template.jinja", "README.md", "config.json"):
        (source / name).write_text("{}")
    save_model(tmp_path / "model", tiny_model("llama"), tokenizer_from=source)
    expected = ["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]
    assert names(tmp_path / "model") == expected
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == "llama"


def test_a_source_without_a_tokenizer_is_rejected_before_writing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer to copy"):
        save_model(tmp_path / "model", tiny_model("llama"), tokenizer_from=tmp_path)
    assert names(tmp_path) == []


def test_a_model_that_contradicts_its_config_is_not_saved(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.layers[0].mlp.up_proj.lora_a = mx.zeros((32, 4))
    with pytest.raises(UserError, match="fuse adapters first") as error:
        save_model(tmp_path / "model", model)
    assert error.value.details == ("model.layers.0.mlp.up_proj.lora_a (32, 4) is not part of the model",)
    with pytest.raises(UserError, match="shape does not match its config"):
        save_model(tmp_path / "model", tiny_model("llama"), tiny_config("llama", vocab_size=51))
    assert names(tmp_path) == []


def test_a_dequantized_model_is_saved_without_quantization_settings(tmp_path: Path) -> None:
    wide = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 64}
    model = tiny_model("llama", **wide)
    nn.quantize(model, group_size=32, bits=4)
    save_model(tmp_path / "packed", model)
    save_model(tmp_path / "dense", load_model(tmp_path / "packed"))
    config = json.loads((tmp_path / "dense" / "config.json").read_text())
    assert "quantization" not in config and "quantization_config" not in config
    assert config["dtype"] == "float32"


def test_a_model_with_unevaluated_weights_can_be_saved(tmp_path: Path) -> None:
    save_model(tmp_path / "model", build_model(tiny_config("gemma2")))
    assert load_model(tmp_path / "model")(tokens(3)).shape == (1, 3, 50)
