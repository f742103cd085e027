"""A GGUF file becomes a checkpoint whose weights are the file's."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.safetensors_header import read_headers
from mlx_suite.gguf import importing
from mlx_suite.gguf.importing import Imported, import_gguf
from mlx_suite.gguf.tensor_names import weight_shapes
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import load_tokenizer
from tests.gguf.files import READABLE, SHAPE, random_rows, weights_of, write_file


def stored(folder: Path) -> dict[str, mx.array]:
    found: Any = mx.load(str(folder / "model.safetensors"))
    return dict(found)


def config_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def expanded(rows: np.ndarray, type: str) -> np.ndarray:
    found: np.ndarray = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[type])
    return found


def imported(tmp_path: Path, *arguments: Any, **changes: Any) -> Imported:
    """An import of `write_file`, dense and in fp32."""
    file = write_file(tmp_path / "model.gguf", *arguments, **changes)
    return import_gguf(file, tmp_path / "out", packed=False, dtype="float32")


@pytest.mark.parametrize("type", READABLE)
def test_weights_of_every_type_are_those_of_the_gguf_package(type: str, tmp_path: Path) -> None:
    imported(tmp_path, "llama", type, num_hidden_layers=1)
    weights = stored(tmp_path / "out")
    rows = weights_of("llama", {**SHAPE, "num_hidden_layers": 1}, type)
    for name, theirs in (
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"),
        ("model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight"),
    ):
        assert np.array_equal(np.array(weights[name]), expanded(rows[theirs], type)), name
    assert np.array_equal(np.array(weights["model.norm.weight"]), rows["output_norm.weight"])


def test_a_llama_has_the_rows_of_queries_and_keys_in_halves_again(tmp_path: Path) -> None:
    """llama.cpp keeps rows that RoPE rotates together side by side: row 1 of a head is Hugging Face's row D / 2."""
    shape = {"hidden_size": 4, "head_dim": 8, "num_attention_heads": 1, "num_key_value_heads": 1}
    config = {**SHAPE, **shape, "intermediate_size": 4, "num_hidden_layers": 1}
    weights = {name: np.zeros(size, np.float32) for name, size in _dense(config).items()}
    weights["blk.0.attn_q.weight"] = np.arange(8, dtype=np.float32)[:, None].repeat(4, axis=1)
    weights["blk.0.attn_k.weight"] = 10 + weights["blk.0.attn_q.weight"]
    weights["blk.0.attn_v.weight"] = weights["blk.0.attn_q.weight"].copy()
    imported(tmp_path, weights=weights, **{key: config[key] for key in config if key != "tie_word_embeddings"})
    first_column = {part: np.array(array)[:, 0].tolist() for part, array in _attention(tmp_path / "out").items()}
    assert first_column == {
        "q_proj": [0, 2, 4, 6, 1, 3, 5, 7],
        "k_proj": [10, 12, 14, 16, 11, 13, 15, 17],
        "v_proj": [0, 1, 2, 3, 4, 5, 6, 7],
    }


def _dense(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    from mlx_suite.gguf.tensor_names import gguf_name

    return {gguf_name(name, "llama"): shape for name, shape in weight_shapes(config, "llama")}


def _attention(folder: Path) -> dict[str, mx.array]:
    weights = stored(folder)
    return {part: weights[f"model.layers.0.self_attn.{part}.weight"] for part in ("q_proj", "k_proj", "v_proj")}


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3"])
def test_norms_of_a_gemma_lose_the_one_that_llama_cpp_adds(architecture: str, tmp_path: Path) -> None:
    imported(tmp_path, architecture, metadata={f"{architecture}.attention.sliding_window": 64})
    theirs = weights_of(architecture, SHAPE)
    weights = stored(tmp_path / "out")
    names = {
        "model.norm": "output_norm",
        "model.layers.1.input_layernorm": "blk.1.attn_norm",
        "model.layers.1.post_attention_layernorm": "blk.1.post_attention_norm",
        "model.layers.1.pre_feedforward_layernorm": "blk.1.ffn_norm",
        "model.layers.1.post_feedforward_layernorm": "blk.1.post_ffw_norm",
    }
    if architecture == "gemma3":
        names |= {f"model.layers.1.self_attn.{part}_norm": f"blk.1.attn_{part}_norm" for part in "qk"}
    for name, other in names.items():
        assert np.array_equal(np.array(weights[f"{name}.weight"]), theirs[f"{other}.weight"] - 1), name


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gemma3", "qwen2", "qwen3"])
def test_a_model_of_every_architecture_can_be_loaded_and_computes(architecture: str, tmp_path: Path) -> None:
    window = {f"{architecture}.attention.sliding_window": 64} if architecture.startswith("gemma") else {}
    imported(tmp_path, architecture, metadata=window, head_dim=64, num_hidden_layers=6)
    model = load_model(tmp_path / "out")
    logits = model(mx.array([[257, 72, 105]]))
    assert logits.shape == (1, 3, 260)
    assert mx.isfinite(logits).all().item()


def test_the_tokenizer_comes_along(tmp_path: Path) -> None:
    imported(tmp_path)
    tokenizer = load_tokenizer(tmp_path / "out")
    assert tokenizer.decode(tokenizer.encode("Hé!")) == "Hé!"
    assert tokenizer.stop_ids == {258}


@pytest.mark.parametrize("type", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_types_with_float16_scales_are_repacked_without_any_error(type: str, tmp_path: Path) -> None:
    assert _packing_error(tmp_path, type, "float16") == 0
    assert 0 < _packing_error(tmp_path, type, "bfloat16") < 4e-3


@pytest.mark.parametrize("type", ["Q4_K", "Q5_K"])
def test_k_types_are_repacked_with_an_error_of_two_ten_thousandths(type: str, tmp_path: Path) -> None:
    """Relative error (L2) by the rounding of d·s and dmin·m, which have 17 bits."""
    assert 1e-5 < _packing_error(tmp_path, type, "float16") < 4e-4
    assert _packing_error(tmp_path, type, "bfloat16") < 4e-3
    assert _packing_error(tmp_path, type, "float32") < 1e-6


def _packing_error(tmp_path: Path, type: str, dtype: str) -> float:
    """Relative distance of the packed weights of an MLP matrix and the embedding from the file's."""
    file = write_file(tmp_path / "model.gguf", type=type)
    import_gguf(file, tmp_path / "out", packed=True, dtype=dtype)
    settings = config_in(tmp_path / "out")["quantization"]
    weights = stored(tmp_path / "out")
    errors = []
    for path, theirs in (("model.layers.1.mlp.gate_proj", "blk.1.ffn_gate"), ("model.embed_tokens", "token_embd")):
        scales, biases = (weights[f"{path}.{part}"].astype(mx.float32) for part in ("scales", "biases"))
        ours = mx.dequantize(weights[f"{path}.weight"], scales, biases, group_size=32, bits=settings["bits"])
        exact = expanded(weights_of("llama", SHAPE, type)[f"{theirs}.weight"], type)
        errors.append(float(np.linalg.norm(np.array(ours) - exact) / np.linalg.norm(exact)))
    return max(errors)


@pytest.mark.parametrize("type", ["Q4_K", "Q5_0", "Q8_0"])
def test_a_packed_checkpoint_loads_as_quantized_layers_that_compute_the_same(type: str, tmp_path: Path) -> None:
    file = write_file(tmp_path / "model.gguf", type=type)
    result = import_gguf(file, tmp_path / "packed", packed=True, dtype="float32")
    import_gguf(file, tmp_path / "dense", packed=False, dtype="float32")
    assert result.packed == 15  # the embedding and seven matrices of each layer
    ids = mx.array([[257, 72, 105, 33]])
    packed = load_model(tmp_path / "packed", dequantize=False)(ids)
    dense = load_model(tmp_path / "dense")(ids)
    assert mx.abs(packed - dense).max().item() < 1e-3 * mx.abs(dense).max().item()


def test_types_without_such_a_form_stay_dense_among_packed_ones(tmp_path: Path) -> None:
    weights = weights_of("llama", SHAPE, "Q4_K") | {"blk.0.ffn_up.weight": np.ones((256, 256), np.float16)}
    result = import_gguf(
        write_file(tmp_path / "mixed.gguf", type="Q4_K", weights=weights), tmp_path / "out", packed=True
    )
    headers = read_headers(tmp_path / "out")
    assert result.packed == 14 and result.dtype == "float16"
    assert headers["model.layers.0.mlp.up_proj.weight"].dtype == "F16"
    assert headers["model.layers.0.mlp.down_proj.weight"].dtype == "U32"
    assert load_model(tmp_path / "out", dequantize=False) is not None


@pytest.mark.parametrize(
    ("architecture", "type", "packed", "dtype"),
    [
        ("llama", "F32", False, "float32"),
        ("llama", "F16", False, "float16"),
        ("llama", "BF16", True, "bfloat16"),
        ("llama", "Q8_0", False, "bfloat16"),
        ("llama", "Q8_0", True, "float16"),
        ("gemma2", "Q8_0", True, "bfloat16"),
    ],
)
def test_the_dtype_is_the_files_or_the_one_that_fits(
    architecture: str, type: str, packed: bool, dtype: str, tmp_path: Path
) -> None:
    result = import_gguf(write_file(tmp_path / "m.gguf", architecture, type), tmp_path / "out", packed=packed)
    assert result.dtype == dtype
    assert config_in(tmp_path / "out")["dtype"] == dtype


def test_parts_of_a_split_file_are_one_model(tmp_path: Path) -> None:
    weights = weights_of("llama", SHAPE)
    names = sorted(weights)
    for number, part in enumerate((names[:7], names[7:]), start=1):
        path = tmp_path / f"big-{number:05}-of-00002.gguf"
        write_file(path, weights={name: weights[name] for name in part}, metadata={"split.count": 2})
    result = import_gguf(tmp_path / "big-00002-of-00002.gguf", tmp_path / "out")
    assert result.parameters == 1_247_488
    (tmp_path / "big-00001-of-00002.gguf").unlink()
    with pytest.raises(UserError) as caught:
        import_gguf(tmp_path / "big-00002-of-00002.gguf", tmp_path / "out")
    assert caught.value.what == "1 of the 2 parts of this file are missing"
    assert caught.value.details == ("big-00001-of-00002.gguf",)


def test_a_missing_unknown_or_misshapen_tensor_is_named(tmp_path: Path) -> None:
    weights = weights_of("llama", SHAPE)
    del weights["blk.1.ffn_up.weight"]
    weights["blk.0.attn_qkv.weight"] = np.zeros((4, 4), np.float32)
    weights["output_norm.weight"] = np.zeros(4, np.float32)
    with pytest.raises(UserError) as caught:
        imported(tmp_path, weights=weights)
    assert caught.value.details == (
        "blk.1.ffn_up.weight is missing",
        "blk.0.attn_qkv.weight is not part of a llama model",
        "output_norm.weight is (4,), not (256,)",
    )
    assert not (tmp_path / "out").exists()


def test_a_type_that_cannot_be_expanded_is_named(tmp_path: Path) -> None:
    weights = weights_of("llama", SHAPE) | {"blk.0.ffn_up.weight": np.zeros((256, 256), np.int8)}
    with pytest.raises(UserError) as caught:
        imported(tmp_path, weights=weights)
    assert caught.value.what == "the weights are of type I8, which cannot be read"


def test_nan_and_values_beyond_float16_are_told_apart(tmp_path: Path) -> None:
    weights = weights_of("llama", SHAPE)
    weights["blk.0.ffn_norm.weight"][3] = 1e6
    file = write_file(tmp_path / "large.gguf", weights=weights)
    with pytest.raises(UserError, match="blk.0.ffn_norm.weight has values that float16 cannot hold"):
        import_gguf(file, tmp_path / "out", dtype="float16")
    weights["blk.0.ffn_norm.weight"][3] = np.nan
    with pytest.raises(UserError, match="contains NaN or inf: the file is damaged"):
        import_gguf(write_file(tmp_path / "nan.gguf", weights=weights), tmp_path / "out", dtype="float16")


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_file(tmp_path / "model.gguf")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 10**6))  # type: ignore[attr-defined]
        with pytest.raises(UserError, match="the disk is too full: 0.1 GB to write, 0.0 GB free"):
            import_gguf(file, tmp_path / "out")

    def fill(done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="The disk is full"):
        import_gguf(file, tmp_path / "out", on_bytes=fill)
    assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]


def test_a_killed_import_leaves_no_half_checkpoint_and_the_next_one_succeeds(tmp_path: Path) -> None:
    file = write_file(tmp_path / "model.gguf")
    program = (
        "import os, sys, signal; from pathlib import Path; from mlx_suite.gguf.importing import import_gguf\n"
        "kill = lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done > total // 2 else None\n"
        "import_gguf(Path(sys.argv[1]), Path(sys.argv[2]), on_bytes=kill)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(file), str(tmp_path / "out")], env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    import_gguf(file, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.gguf", "out"]


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(UserError, match="files that are not part of a checkpoint"):
        imported(tmp_path)


def test_weights_are_converted_a_few_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With pieces of 1,000 weights the result is the same, and no piece is larger."""
    file = write_file(tmp_path / "model.gguf", type="Q8_0")
    import_gguf(file, tmp_path / "whole", packed=True)
    sizes = []
    repack = importing.repack
    monkeypatch.setattr("mlx_suite.gguf.tensors.CHUNK", 1000)
    monkeypatch.setattr(importing, "repack", lambda rows, type: sizes.append(rows.nbytes) or repack(rows, type))
    import_gguf(file, tmp_path / "pieces", packed=True)
    assert max(sizes) == 3 * len(random_rows("Q8_0", 1, 256)[0])
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (tmp_path / "pieces/model.safetensors").read_bytes()
