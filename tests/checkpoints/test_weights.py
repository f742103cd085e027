"""Loading weights: matching and mismatched tensors, dtypes, and quantization."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlx_suite.checkpoints import weights
from mlx_suite.checkpoints.config_file import config_to_dict
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.save import save_model
from mlx_suite.runtime.device import Device
from mlx_suite.runtime.errors import UserError
from tests.modeling.tiny import largest_difference, tiny_config, tiny_model, tokens

LAYER = "model.layers.0"


def checkpoint(folder: Path, family: str = "llama", **save: Any) -> Path:
    save_model(folder, tiny_model(family), **save)
    return folder


def rewrite(folder: Path, change: Callable[[dict[str, mx.array]], None]) -> None:
    """Change the tensors of a saved checkpoint."""
    path = folder / "model.safetensors"
    arrays: Any = mx.load(str(path))
    mx.eval(arrays)
    change(arrays)
    mx.save_safetensors(str(path), arrays, metadata={"format": "pt"})


def refusal(folder: Path, **arguments: Any) -> UserError:
    with pytest.raises(UserError) as error:
        load_model(folder, **arguments)
    return error.value


@pytest.fixture
def metal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The precision policy of a Mac; computations stay on this device."""
    mac = Device(kind="metal", name="Apple M4", memory_bytes=10**10, working_set_bytes=10**10, blas=None)
    monkeypatch.setattr(weights, "device", lambda: mac)


def dtypes(model: nn.Module) -> set[mx.Dtype]:
    return {array.dtype for array in weights.named_parameters(model).values()}


def test_all_bad_tensors_are_listed_in_one_error(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model")

    def spoil(arrays: dict[str, mx.array]) -> None:
        del arrays["model.norm.weight"]
        arrays[f"{LAYER}.mlp.up_proj.weight"] = mx.zeros((32, 48))
        arrays[f"{LAYER}.mlp.up_proj.lora_a"] = mx.zeros((32, 4))
        arrays["lm_head.weight"] = mx.zeros((50, 32), dtype=mx.int32)

    rewrite(folder, spoil)
    error = refusal(folder)
    assert error.what == "the weights do not fit the model that config.json describes"
    assert error.where == str(folder)
    assert error.details == (
        "lm_head.weight holds I32",
        "model.norm.weight (32,) is missing",
        "model.layers.0.mlp.up_proj.weight is (32, 48), not (48, 32)",
        "model.layers.0.mlp.up_proj.lora_a (32, 4) is not part of the model",
    )


def test_a_long_list_of_bad_tensors_ends_in_a_count(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 6}))
    error = refusal(folder)
    assert len(error.details) == 21
    assert error.details[-1] == "and 7 more"  # three layers of nine tensors


def test_truncated_and_missing_shards_are_reported(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", max_shard_bytes=20_000)
    shards = sorted(folder.glob("model-*.safetensors"))
    shards[1].write_bytes(shards[1].read_bytes()[:-100])
    assert f"{shards[1].name} is truncated" in refusal(folder).details[0]
    shards[2].unlink()
    assert refusal(folder).details == (shards[2].name,)


def test_a_folder_without_weights_is_rejected(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    assert "no weights" in refusal(folder).what


def test_copies_of_a_tied_head_and_stored_rope_frequencies_are_ignored(tmp_path: Path) -> None:
    model = tiny_model("llama", tie_word_embeddings=True)
    save_model(tmp_path / "model", model)

    def add(arrays: dict[str, mx.array]) -> None:
        arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"]
        arrays[f"{LAYER}.self_attn.rotary_emb.inv_freq"] = mx.zeros((8,))

    rewrite(tmp_path / "model", add)
    assert mx.array_equal(load_model(tmp_path / "model")(tokens(9)), model(tokens(9))).item()


def test_shards_are_found_without_an_index(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", max_shard_bytes=20_000)
    (folder / "model.safetensors.index.json").unlink()
    assert mx.array_equal(load_model(folder)(tokens(9)), tiny_model("llama")(tokens(9))).item()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_on_a_cpu_every_checkpoint_becomes_float32(tmp_path: Path, dtype: str) -> None:
    folder = checkpoint(tmp_path / "model", dtype=dtype)
    model = load_model(folder)
    assert dtypes(model) == {mx.float32}
    rounded = tiny_model("llama")
    rounded.set_dtype(weights.DTYPES[dtype])
    rounded.set_dtype(mx.float32)
    assert mx.array_equal(model(tokens(9)), rounded(tokens(9))).item()


@pytest.mark.parametrize(
    ("family", "stored", "held"),
    [
        ("llama", "float32", mx.float32),
        ("llama", "bfloat16", mx.bfloat16),
        ("llama", "float16", mx.float16),
        ("gemma2", "bfloat16", mx.bfloat16),
        ("gemma2", "float16", mx.bfloat16),
    ],
)
def test_on_a_gpu_a_checkpoint_keeps_its_dtype_but_gemma_2_in_float16_would_overflow(
    metal: None, tmp_path: Path, family: str, stored: str, held: mx.Dtype
) -> None:
    assert dtypes(load_model(checkpoint(tmp_path / "model", family, dtype=stored))) == {held}


def test_a_requested_dtype_overrides_the_policy(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model")
    assert dtypes(load_model(folder, dtype="bfloat16")) == {mx.bfloat16}
    assert dtypes(load_model(folder, dtype=mx.float16)) == {mx.float16}
    assert "cannot be loaded as int8" in refusal(folder, dtype="int8").what


def test_lazily_loaded_weights_give_the_same_logits(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", dtype="bfloat16")
    assert mx.array_equal(load_model(folder, lazy=True)(tokens(9)), load_model(folder)(tokens(9))).item()


def test_weights_larger_than_memory_are_rejected_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path / "model", dtype="bfloat16")
    small = Device(kind="cpu", name="a toaster", memory_bytes=10**5, working_set_bytes=10**5, blas=None)
    monkeypatch.setattr(weights, "device", lambda: small)
    error = refusal(folder)
    assert "float32" in error.what and "a toaster" in error.what
    assert error.where == str(folder)
    load_model(folder, dtype="bfloat16")


# Quantized checkpoints: 128 columns are divisible by every group size.
WIDE = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32}


def quantized(family: str = "llama", **settings: Any) -> nn.Module:
    model = tiny_model(family, **WIDE)
    nn.quantize(model, **settings)
    return model


@pytest.mark.parametrize(
    "settings",
    [
        {"group_size": 64, "bits": 4},
        {"group_size": 32, "bits": 8},
        {"group_size": 128, "bits": 3},
        {"mode": "mxfp4"},
        {"mode": "mxfp8"},
        {"mode": "nvfp4"},
    ],
    ids=str,
)
def test_a_quantized_checkpoint_is_dequantized_on_a_cpu_unless_kept_on_request(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    model = quantized(**settings)
    save_model(tmp_path / "model", model)
    dense, packed = load_model(tmp_path / "model"), load_model(tmp_path / "model", dequantize=False)
    assert not any(isinstance(m, nn.QuantizedLinear | nn.QuantizedEmbedding) for m in dense.modules())
    assert dtypes(dense) == {mx.float32}
    assert isinstance(packed.model.embed_tokens, nn.QuantizedEmbedding)
    assert mx.array_equal(packed(tokens(9)), model(tokens(9))).item()
    assert largest_difference(dense(tokens(9)), model(tokens(9))) < 1e-4


def test_on_a_gpu_a_quantized_checkpoint_stays_quantized(metal: None, tmp_path: Path) -> None:
    save_model(tmp_path / "model", quantized("gemma2", group_size=64, bits=4), dtype="float16")
    model = load_model(tmp_path / "model")
    assert isinstance(model.model.layers[0].mlp.up_proj, nn.QuantizedLinear)
    assert dtypes(model) == {mx.uint32, mx.bfloat16}


def mixed(path: str, module: nn.Module) -> bool | dict[str, Any]:
    """Two bit widths, with attention not quantized."""
    if "self_attn" in path or not hasattr(module, "to_quantized"):
        return False
    return {"group_size": 32, "bits": 6} if "down_proj" in path else {"group_size": 64, "bits": 4}


@pytest.mark.parametrize("settings_are_there", [True, False])
def test_layers_may_differ_in_quantization(tmp_path: Path, settings_are_there: bool) -> None:
    model = quantized(class_predicate=mixed)
    save_model(tmp_path / "model", model)
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    assert config["quantization"] == config["quantization_config"]
    assert config["quantization"] == {
        "group_size": 64,
        "bits": 4,
        "mode": "affine",
        **{f"model.layers.{i}.mlp.down_proj": {"group_size": 32, "bits": 6, "mode": "affine"} for i in range(3)},
    }
    if not settings_are_there:  # the tensors suffice
        del config["quantization"], config["quantization_config"]
        path.write_text(json.dumps(config))
    again = load_model(tmp_path / "model", dequantize=False)
    assert isinstance(again.model.layers[0].self_attn.q_proj, nn.Linear)
    assert mx.array_equal(again(tokens(9)), model(tokens(9))).item()


def test_a_layer_with_unknown_quantization_is_reported(tmp_path: Path) -> None:
    save_model(tmp_path / "model", quantized(group_size=64, bits=4))

    def spoil(arrays: dict[str, mx.array]) -> None:
        arrays[f"{LAYER}.mlp.up_proj.scales"] = mx.zeros((256, 3))
        del arrays[f"{LAYER}.mlp.gate_proj.biases"]
        del arrays[f"{LAYER}.mlp.down_proj.scales"]

    rewrite(tmp_path / "model", spoil)
    details = refusal(tmp_path / "model").details
    assert f"{LAYER}.mlp.up_proj is quantized in an unknown way" in details[0]
    assert f"{LAYER}.mlp.gate_proj.biases (256, 2) is missing" in details
    assert f"{LAYER}.mlp.down_proj.weight holds U32" in details


def test_the_config_of_a_checkpoint_keeps_its_own_keys(tmp_path: Path) -> None:
    config = tiny_config("gemma2", eos_token_id=[1, 107])
    save_model(tmp_path / "model", tiny_model("gemma2"), config, dtype="bfloat16")
    written = json.loads((tmp_path / "model" / "config.json").read_text())
    assert written == config_to_dict(config) | {"dtype": "bfloat16", "torch_dtype": "bfloat16"}
    assert load_model(tmp_path / "model").config.source["eos_token_id"] == [1, 107]
