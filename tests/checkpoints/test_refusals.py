"""Checkpoints that cannot be used: one sentence with the reason, and a fix that works."""

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_suite.adapters.attach import load_adapter
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.save import save_model
from mlx_suite.hub.resolve import resolve
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import load_chat_template, load_tokenizer
from tests.modeling.tiny import tiny_model

DOWN = "model.layers.1.mlp.down_proj.weight"


def weights_of(folder: Path) -> dict[str, mx.array]:
    stored = mx.load(str(folder / "model.safetensors"))
    assert isinstance(stored, dict)
    return stored


def refusal(folder: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        load_model(folder)
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", tiny_model("llama"))
    return tmp_path / "model"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_weights_that_are_not_finite_are_refused_by_name(value: str, folder: Path) -> None:
    weights = weights_of(folder)
    weights[DOWN][3, 5] = float(value)
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    error = refusal(folder)
    assert error.what == "the weights contain NaN or inf in 1 of 30 tensors"
    assert error.details == (DOWN,)


def test_a_sum_that_overflows_is_no_defect(folder: Path) -> None:
    weights = {name: array.astype(mx.float16) for name, array in weights_of(folder).items()}
    weights[DOWN] = mx.full(weights[DOWN].shape, 6e4, mx.float16)
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    assert load_model(folder, dtype="float16").layers[1].mlp.down_proj.weight.dtype == mx.float16


def test_an_adapter_that_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    settings = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": {"rank": 2, "scale": 1.0, "dropout": 0.0}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    path = "model.layers.0.self_attn.q_proj"
    arrays = {f"{path}.lora_a": mx.zeros((32, 2)), f"{path}.lora_b": mx.full((2, 64), float("nan"))}
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), arrays)
    with pytest.raises(UserError, match="NaN or inf in 1 of 2 tensors") as caught:
        load_adapter(tmp_path)
    assert caught.value.details == (f"{path}.lora_b",)


@pytest.mark.parametrize(
    ("file", "kind", "fix"),
    [
        ("pytorch_model.bin", "PyTorch pickles (.bin)", "look for the same model in safetensors format"),
        ("consolidated.00.pth", "PyTorch pickles (.pth)", "look for the same model in safetensors format"),
        ("model.ckpt", "PyTorch pickles (.ckpt)", "look for the same model in safetensors format"),
        ("model-Q4_K_M.gguf", "llama.cpp files (.gguf)", "give the file itself: "),
    ],
)
def test_weights_in_files_of_another_format_are_named(file: str, kind: str, fix: str, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / file)
    error = refusal(folder)
    assert error.what == f"the folder has no weights: no .safetensors file, only {kind}"
    assert error.fix.startswith(fix)


@pytest.mark.parametrize(
    ("method", "suffix", "dtype", "name"),
    [
        ("bitsandbytes", "weight.absmax", mx.float32, "bitsandbytes"),
        ("gptq", "g_idx", mx.int32, "GPTQ"),
        (None, "qweight", mx.int32, "GPTQ or AWQ"),
        (None, "weight_packed", mx.int32, "compressed-tensors"),
    ],
)
def test_a_quantized_format_that_is_not_read_is_named(
    method: str | None, suffix: str, dtype: mx.Dtype, name: str, folder: Path
) -> None:
    weights = weights_of(folder)
    del weights[DOWN]
    weights[f"model.layers.1.mlp.down_proj.{suffix}"] = mx.zeros((4, 4), dtype)
    weights["model.layers.1.mlp.down_proj.weight"] = mx.zeros((8, 1), mx.uint8)
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    if method:
        config = json.loads((folder / "config.json").read_text())
        config["quantization_config"] = {"quant_method": method, "bits": 4}
        (folder / "config.json").write_text(json.dumps(config))
    error = refusal(folder)
    assert error.what == f"the weights are quantized with {name}, in a layout that neither mlx-suite nor mlx-lm reads"
    assert not error.details
    assert error.fix == "use the model before this quantization, or a version of it in MLX's format or GGUF"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b" \n", "the chat template is empty"),
        (
            b"{{ messages }}{% if %}",
            "the chat template is not valid Jinja: Expected an expression, got 'end of statement block'",
        ),
        (b"{{ messages }}\xff", "the chat template is not UTF-8 text: invalid start byte at byte 14"),
    ],
)
def test_a_chat_template_that_says_nothing_is_refused(content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_chat_template(tmp_path)
    assert caught.value.what.startswith(problem)
    assert caught.value.where == str(tmp_path / "chat_template.jinja")


@pytest.mark.parametrize("load", [load_model, resolve])
def test_a_model_in_metas_or_mistrals_own_format_is_named(load: Callable[[Path], object], folder: Path) -> None:
    (folder / "config.json").rename(folder / "params.json")
    with pytest.raises(UserError) as caught:
        load(folder)
    assert caught.value.what == (
        "the folder contains a model in Meta's or Mistral's own format (params.json), and no config.json"
    )
    assert caught.value.fix == "use the same model in Hugging Face's format: config.json and model*.safetensors"


def test_a_tokenizer_in_another_form_is_named(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(UserError) as caught:
        load_tokenizer(tmp_path)
    assert (
        caught.value.what == "no tokenizer: neither tokenizer.json nor tokenizer.model, only vocab.json and merges.txt"
    )
    assert "save_pretrained" in caught.value.fix


@pytest.mark.parametrize("name", ["word " * 100, "a\0b", "~nobody-has-this-name/x"])
def test_a_prompt_in_the_place_of_a_model_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="this is no model"):
        resolve(name)
