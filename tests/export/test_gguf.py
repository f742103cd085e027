"""GGUF files, read by llama.cpp's reader: names, values, metadata, and refusals."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.adapters.attach import AdapterConfig
from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.weights import named_parameters
from mlx_suite.export.gguf import export_gguf
from mlx_suite.export.gguf_tensors import gguf_array, rope_factors
from mlx_suite.runtime.errors import UserError
from mlx_suite.text.template import load_chat_template
from tests.export.adapted import adapted_model
from tests.export.checkpoints import (
    SCALED_ROPE,
    TINY_GEMMA2,
    TINY_LLAMA3,
    VOCABULARY,
    quantized_checkpoint,
    random_checkpoint,
    without_template,
)
from tests.modeling.tiny import tiny_config, tokens

LLAMA_BLOCK = "attn_norm attn_q attn_k attn_v attn_output ffn_norm ffn_gate ffn_up ffn_down".split()
GEMMA_BLOCK = [*LLAMA_BLOCK, "post_attention_norm", "post_ffw_norm"]


def stored(path: Path) -> dict[str, np.ndarray]:
    """Tensors in fp32, in the order of the file."""
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}


def stored_types(path: Path) -> set[str]:
    return {tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors if len(tensor.shape) > 1}


def metadata(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def ours(model: Any, name: str) -> np.ndarray:
    return np.array(named_parameters(model)[name].astype(mx.float32))


def unpaired(rows: np.ndarray, heads: int) -> np.ndarray:
    """Reorder the rows of each head from adjacent pairs back to halves."""
    by_head = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return by_head.swapaxes(1, 2).reshape(rows.shape)


def test_a_llama_has_llama_cpps_names_and_no_head_if_it_is_tied(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "tied", "llama", tie_word_embeddings=True)
    export_gguf(tmp_path / "tied", tmp_path / "tied.gguf")
    blocks = [f"blk.{layer}.{part}.weight" for layer in range(3) for part in LLAMA_BLOCK]
    assert sorted(stored(tmp_path / "tied.gguf")) == sorted(["token_embd.weight", "output_norm.weight", *blocks])
    random_checkpoint(tmp_path / "own", "llama")
    written = export_gguf(tmp_path / "own", tmp_path / "own.gguf")
    assert "output.weight" in stored(tmp_path / "own.gguf")
    assert written.tensors == 3 + 3 * len(LLAMA_BLOCK)


def test_queries_and_keys_are_reordered_to_rotate_adjacent_rows() -> None:
    config = tiny_config("llama", num_attention_heads=2, num_key_value_heads=1, head_dim=4)
    rows = mx.arange(8.0)[:, None]
    query = gguf_array("model.layers.0.self_attn.q_proj.weight", rows, config)
    key = gguf_array("model.layers.0.self_attn.k_proj.weight", rows[:4], config)
    assert query[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert key[:, 0].tolist() == [0, 2, 1, 3]
    assert gguf_array("model.layers.0.self_attn.v_proj.weight", rows, config)[:, 0].tolist() == list(range(8))


def test_every_weight_of_a_llama_is_in_the_file(tmp_path: Path) -> None:
    model = random_checkpoint(tmp_path / "model", "llama")
    export_gguf(tmp_path / "model", tmp_path / "model.gguf", type="f32")
    arrays = stored(tmp_path / "model.gguf")
    assert np.array_equal(arrays["token_embd.weight"], ours(model, "model.embed_tokens.weight"))
    assert np.array_equal(arrays["output.weight"], ours(model, "lm_head.weight"))
    for layer in range(3):
        mine, theirs = f"model.layers.{layer}", f"blk.{layer}"
        query, key = arrays[f"{theirs}.attn_q.weight"], arrays[f"{theirs}.attn_k.weight"]
        assert np.array_equal(unpaired(query, 4), ours(model, f"{mine}.self_attn.q_proj.weight"))
        assert np.array_equal(unpaired(key, 2), ours(model, f"{mine}.self_attn.k_proj.weight"))
        for name, part in {
            "attn_v": "self_attn.v_proj",
            "ffn_down": "mlp.down_proj",
            "ffn_norm": "post_attention_layernorm",
        }.items():
            assert np.array_equal(arrays[f"{theirs}.{name}.weight"], ours(model, f"{mine}.{part}.weight"))


def test_a_gemma2_has_four_norms_with_one_added_to_each_weight(tmp_path: Path) -> None:
    model = random_checkpoint(tmp_path / "model", "gemma2", TINY_GEMMA2)
    export_gguf(tmp_path / "model", tmp_path / "model.gguf", type="f32")
    arrays = stored(tmp_path / "model.gguf")
    blocks = [f"blk.{layer}.{part}.weight" for layer in range(3) for part in GEMMA_BLOCK]
    assert sorted(arrays) == sorted(["token_embd.weight", "output_norm.weight", *blocks])
    for theirs, mine in {
        "blk.1.attn_norm": "model.layers.1.input_layernorm",
        "blk.1.post_attention_norm": "model.layers.1.post_attention_layernorm",
        "blk.1.ffn_norm": "model.layers.1.pre_feedforward_layernorm",
        "blk.1.post_ffw_norm": "model.layers.1.post_feedforward_layernorm",
        "output_norm": "model.norm",
    }.items():
        assert np.array_equal(arrays[f"{theirs}.weight"], ours(model, f"{mine}.weight") + 1)
    key = "model.layers.1.self_attn.k_proj.weight"
    assert np.array_equal(arrays["blk.1.attn_k.weight"], ours(model, key))


@pytest.mark.parametrize(
    ("shape", "factor"),
    [
        ({"query_pre_attn_scalar": 16}, 1.0),
        ({"query_pre_attn_scalar": 4}, 2.0),
        # llama.cpp takes any Gemma 2 of 46 layers for the 27B, and scales by √(hidden size / heads) = √8 there.
        ({"query_pre_attn_scalar": 8, "num_hidden_layers": 46}, 1.0),
        ({"query_pre_attn_scalar": 32, "num_hidden_layers": 46}, 0.5),
    ],
)
def test_the_scale_that_llama_cpp_ignores_is_multiplied_into_the_queries(shape: dict[str, Any], factor: float) -> None:
    changed = gguf_array("model.layers.0.self_attn.q_proj.weight", mx.ones((4, 4)), tiny_config("gemma2", **shape))
    assert np.allclose(np.array(changed), factor, rtol=1e-6)


def test_bf16_is_exact_for_a_bfloat16_checkpoint(tmp_path: Path) -> None:
    export_gguf(TINY_LLAMA3, tmp_path / "tiny.gguf", type="bf16")
    model = load_model(TINY_LLAMA3)
    arrays = stored(tmp_path / "tiny.gguf")
    assert stored_types(tmp_path / "tiny.gguf") == {"BF16"}
    assert np.array_equal(arrays["token_embd.weight"], ours(model, "model.embed_tokens.weight"))
    assert np.array_equal(arrays["blk.4.ffn_up.weight"], ours(model, "model.layers.4.mlp.up_proj.weight"))


def test_8_bit_blocks_are_close_and_rows_not_divisible_into_blocks_are_f16(tmp_path: Path) -> None:
    model = random_checkpoint(tmp_path / "model", "llama")
    export_gguf(tmp_path / "model", tmp_path / "model.gguf", type="q8_0")
    wide, narrow = "blk.0.ffn_up.weight", "blk.0.ffn_down.weight"  # rows of 32 and of 48
    types = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert (types[wide], types[narrow], types["output_norm.weight"]) == ("Q8_0", "F16", "F32")
    weight = ours(model, "model.layers.0.mlp.up_proj.weight")
    assert np.abs(stored(tmp_path / "model.gguf")[wide] - weight).max() < np.abs(weight).max() / 200


def test_a_quantized_checkpoint_is_written_dense(tmp_path: Path) -> None:
    quantized_checkpoint(tmp_path / "packed")
    export_gguf(tmp_path / "packed", tmp_path / "model.gguf", type="f32")
    dense = load_model(tmp_path / "packed", dequantize=True, dtype="float32")
    arrays = stored(tmp_path / "model.gguf")
    assert np.array_equal(arrays["blk.2.ffn_gate.weight"], ours(dense, "model.layers.2.mlp.gate_proj.weight"))
    assert np.array_equal(arrays["token_embd.weight"], ours(dense, "model.embed_tokens.weight"))


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_an_adapter_is_fused_and_the_model_is_unchanged(method: str, tmp_path: Path) -> None:
    config = AdapterConfig(rank=4, alpha=8.0, method=method, modules=("v_proj", "down_proj"))
    model = adapted_model("llama", config, tmp_path, vocab_size=VOCABULARY)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "base" / file).write_bytes((TINY_LLAMA3 / file).read_bytes())
    before = model(tokens(9))
    export_gguf(tmp_path / "base", tmp_path / "by-folder.gguf", type="f32", adapter=tmp_path / "adapter")
    export_gguf(tmp_path / "base", tmp_path / "by-model.gguf", type="f32", model=model)
    export_gguf(tmp_path / "base", tmp_path / "base.gguf", type="f32")
    base, merged = stored(tmp_path / "base.gguf"), stored(tmp_path / "by-folder.gguf")
    changed = {name for name in base if not np.array_equal(base[name], merged[name])}
    assert changed == {f"blk.{layer}.{part}.weight" for layer in range(3) for part in ("attn_v", "ffn_down")}
    assert all(
        np.allclose(merged[name], array, atol=1e-6) for name, array in stored(tmp_path / "by-model.gguf").items()
    )
    assert mx.array_equal(model(tokens(9)), before)  # a GGUF export that empties the weights: mlx-lm#1723, #353


def test_llama_3_1_rope_scaling_is_one_divisor_per_pair(tmp_path: Path) -> None:
    config = tiny_config("llama", **SCALED_ROPE)
    factors = rope_factors(config)
    assert factors is not None
    assert factors[0] == pytest.approx(1.0)  # a wavelength of 6 tokens is kept
    assert factors[-1] == pytest.approx(8.0)  # one of 20,000 is stretched
    assert 1.0 < factors[2] < 8.0
    random_checkpoint(tmp_path / "model", "llama", **SCALED_ROPE)
    export_gguf(tmp_path / "model", tmp_path / "model.gguf")
    assert np.array_equal(stored(tmp_path / "model.gguf")["rope_freqs.weight"], factors)


def test_the_metadata_of_a_llama(tmp_path: Path) -> None:
    export_gguf(TINY_LLAMA3, tmp_path / "tiny.gguf")
    found = metadata(tmp_path / "tiny.gguf")
    assert {name: value for name, value in found.items() if name.startswith(("general.", "llama."))} == {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "tiny",
        "general.file_type": 1,
        "general.quantization_version": 2,
        "llama.context_length": 512,
        "llama.embedding_length": 192,
        "llama.block_count": 5,
        "llama.feed_forward_length": 512,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 64,
        "llama.attention.value_length": 64,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "llama.vocab_size": 2048,
        "llama.rope.dimension_count": 64,
        "llama.rope.freq_base": 500000.0,
    }
    assert found["tokenizer.chat_template"] == (TINY_LLAMA3 / "chat_template.jinja").read_text(encoding="utf-8")


def test_the_metadata_of_a_gemma2(tmp_path: Path) -> None:
    export_gguf(TINY_GEMMA2, tmp_path / "tiny.gguf")
    found = metadata(tmp_path / "tiny.gguf")
    assert found["gemma2.attn_logit_softcapping"] == 50.0
    assert found["gemma2.final_logit_softcapping"] == 30.0
    assert found["gemma2.attention.sliding_window"] == 32
    assert found["gemma2.attention.key_length"] == 64


def test_a_gemma3_has_norms_of_queries_and_keys_and_a_rope_base_for_its_local_layers(tmp_path: Path) -> None:
    shape = {"num_hidden_layers": 7, "sliding_window_pattern": 6, "query_pre_attn_scalar": 4}
    rope = {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_local_base_freq": 500.0}
    model = random_checkpoint(tmp_path / "model", "gemma3_text", TINY_GEMMA2, **shape, **rope)
    export_gguf(tmp_path / "model", tmp_path / "model.gguf", type="f32")
    found, arrays = metadata(tmp_path / "model.gguf"), stored(tmp_path / "model.gguf")
    blocks = [f"blk.{i}.{part}.weight" for i in range(7) for part in [*GEMMA_BLOCK, "attn_q_norm", "attn_k_norm"]]
    assert sorted(arrays) == sorted(["token_embd.weight", "output_norm.weight", *blocks])
    attention = "model.layers.5.self_attn"
    assert np.array_equal(arrays["blk.5.attn_k_norm.weight"], ours(model, f"{attention}.k_norm.weight") + 1)
    # The scale that llama.cpp ignores, √16 / √4, goes into the norm: before it, the norm would undo it.
    expected = 2 * (ours(model, f"{attention}.q_norm.weight") + 1)
    assert np.allclose(arrays["blk.5.attn_q_norm.weight"], expected, rtol=1e-6)
    assert np.array_equal(arrays["blk.5.attn_q.weight"], ours(model, f"{attention}.q_proj.weight"))
    assert {name: found[f"gemma3.{name}"] for name in ("rope.freq_base", "rope.freq_base_swa")} == {
        "rope.freq_base": 1000000.0,
        "rope.freq_base_swa": 500.0,
    }
    assert (found["gemma3.rope.scaling.type"], found["gemma3.rope.scaling.factor"]) == ("linear", 8.0)
    assert (found["gemma3.attention.sliding_window"], found["gemma3.attention.key_length"]) == (6, 16)
    assert "gemma3.attn_logit_softcapping" not in found


def test_a_qwen3_keeps_the_row_order_of_its_queries_and_keys(tmp_path: Path) -> None:
    model = random_checkpoint(tmp_path / "model", "qwen3", rope_theta=1000000.0)
    export_gguf(tmp_path / "model", tmp_path / "model.gguf", type="f32")
    found, arrays = metadata(tmp_path / "model.gguf"), stored(tmp_path / "model.gguf")
    blocks = [f"blk.{i}.{part}.weight" for i in range(3) for part in [*LLAMA_BLOCK, "attn_q_norm", "attn_k_norm"]]
    assert sorted(arrays) == sorted(["token_embd.weight", "output_norm.weight", "output.weight", *blocks])
    for theirs, mine in {"attn_q": "q_proj", "attn_k": "k_proj", "attn_q_norm": "q_norm"}.items():
        weight = ours(model, f"model.layers.1.self_attn.{mine}.weight")
        assert np.array_equal(arrays[f"blk.1.{theirs}.weight"], weight)
    assert (found["general.architecture"], found["qwen3.rope.freq_base"]) == ("qwen3", 1000000.0)


@pytest.mark.parametrize(
    ("family", "changes", "problem"),
    [
        ("gemma3_text", {}, "its global layers are not every sixth one, as llama.cpp assumes"),
        (
            "gemma3_text",
            {"sliding_window_pattern": 6, "attn_logit_softcapping": 50.0},
            "it has a soft-cap on attention (attn_logit_softcapping), which llama.cpp does not apply",
        ),
        ("qwen3", {"attention_bias": True}, "its attention has biases, which llama.cpp does not add for a Qwen 3"),
    ],
)
def test_a_gemma3_or_qwen3_that_llama_cpp_computes_differently_is_refused(
    family: str, changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    random_checkpoint(tmp_path / "model", family, **changes)
    with pytest.raises(UserError, match="llama.cpp would not compute the same function") as caught:
        export_gguf(tmp_path / "model", tmp_path / "model.gguf")
    assert problem in caught.value.details


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_rope_scaling_that_is_not_written_is_refused(family: str, tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model", family, rope_scaling={"rope_type": "yarn", "factor": 4.0})
    with pytest.raises(UserError, match="llama.cpp would not compute the same function") as caught:
        export_gguf(tmp_path / "model", tmp_path / "model.gguf")
    assert "it scales RoPE by yarn, which is not written to GGUF files" in caught.value.details


def test_the_context_of_a_mistral_is_its_window(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model", "mistral", sliding_window=64)
    written = export_gguf(tmp_path / "model", tmp_path / "model.gguf")
    assert metadata(tmp_path / "model.gguf")["llama.context_length"] == 64
    assert written.notes == (
        "llama.cpp has no sliding window for this family: the file's context is 64 tokens, up to which the two match, "
        "instead of 128",
    )
    assert "PARAMETER num_ctx 64\n" in written.modelfile.read_text()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"layer_types": ["full_attention", "sliding_attention", "full_attention"]},
            "its local layers are not every other layer starting with the first, as llama.cpp assumes",
        ),
        (
            {"attn_logit_softcapping": None},
            "it has no soft-cap on attention (attn_logit_softcapping), and llama.cpp always applies one",
        ),
        (
            {"tie_word_embeddings": False},
            "its head is not tied to the embedding, and llama.cpp has only the embedding",
        ),
        (SCALED_ROPE, "it scales RoPE as Llama 3.1 does, which llama.cpp does not do for a Gemma 2"),
    ],
)
def test_a_gemma2_that_llama_cpp_computes_differently_is_refused(
    changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    random_checkpoint(tmp_path / "model", "gemma2", TINY_GEMMA2, **changes)
    with pytest.raises(UserError, match="llama.cpp would not compute the same function") as caught:
        export_gguf(tmp_path / "model", tmp_path / "model.gguf")
    assert caught.value.details == (problem,)
    assert not (tmp_path / "model.gguf").exists()


def test_a_value_beyond_float16_is_refused_and_the_old_file_is_kept(tmp_path: Path) -> None:
    model = random_checkpoint(tmp_path / "model", "llama")
    model.model.layers[2].mlp.up_proj.weight[0, 0] = 70000.0
    (tmp_path / "model.gguf").write_text("old")
    with pytest.raises(UserError, match="model.layers.2.mlp.up_proj.weight has values that float16 cannot hold"):
        export_gguf(tmp_path / "model", tmp_path / "model.gguf", model=model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.gguf"]
    assert (tmp_path / "model.gguf").read_text() == "old"
    export_gguf(tmp_path / "model", tmp_path / "model.gguf", model=model, type="bf16")


@pytest.mark.parametrize("type", ["f16", "bf16", "q8_0"])
def test_weights_with_nan_are_refused_by_name_and_no_file_is_left(type: str, tmp_path: Path) -> None:
    model = random_checkpoint(tmp_path / "model", "llama")
    model.model.layers[2].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(UserError) as refused:
        export_gguf(tmp_path / "model", tmp_path / "model.gguf", model=model, type=type)
    assert refused.value.details == ("model.layers.2.mlp.up_proj.weight",)
    assert refused.value.where == str(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_template_in_chat_template_json_is_exported(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model", "llama")
    folder = tmp_path / "model"
    template = load_chat_template(folder).source
    without_template(folder)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert export_gguf(folder, tmp_path / "model.gguf").has_template


def test_a_full_disk_leaves_only_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    random_checkpoint(tmp_path / "model", "llama")
    (tmp_path / "model.gguf").write_text("old")
    monkeypatch.setattr(gguf.GGUFWriter, "write_padding", full)
    with pytest.raises(UserError, match="The disk is full. What was there before is untouched."):
        export_gguf(tmp_path / "model", tmp_path / "model.gguf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.gguf"]
    assert (tmp_path / "model.gguf").read_text() == "old"


def test_invalid_arguments_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be stored as 'q4_k'") as caught:
        export_gguf(TINY_LLAMA3, tmp_path / "tiny.gguf", type="q4_k")
    assert caught.value.fix == "choose one of f16, bf16, f32, q8_0"
    with pytest.raises(UserError, match="must end in .gguf") as caught:
        export_gguf(TINY_LLAMA3, tmp_path / "tiny.bin")
    assert caught.value.fix == "name it tiny.gguf"


def test_the_modelfile_of_a_gemma2(tmp_path: Path) -> None:
    written = export_gguf(TINY_GEMMA2, tmp_path / "tiny.gguf")
    assert written.modelfile == tmp_path / "tiny.Modelfile"
    lines = written.modelfile.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "FROM ./tiny.gguf"
    assert lines[2] == 'TEMPLATE """{{- $before := "" }}'
    assert lines[-3:] == ['PARAMETER stop "<eos>"', 'PARAMETER stop "<end_of_turn>"', "PARAMETER num_ctx 512"]
    assert written.has_template and written.notes == ()
    assert not any("<bos>" in line for line in lines)  # Ollama adds it, and twice is wrong (OpenRLHF#393)


def test_a_base_model_has_no_template_and_the_modelfile_says_so(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model", "llama")
    without_template(tmp_path / "model")
    written = export_gguf(tmp_path / "model", tmp_path / "model.gguf")
    assert not written.has_template
    assert written.notes == ("the Modelfile has no TEMPLATE: the checkpoint has no chat template",)
    assert "TEMPLATE" not in written.modelfile.read_text().replace("# No TEMPLATE", "")
    assert "tokenizer.chat_template" not in metadata(tmp_path / "model.gguf")


def test_sampling_settings_are_written_to_the_modelfile(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "model", "llama")
    settings = {"temperature": 0.6, "top_p": 0.9, "eos_token_id": 2041}
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps(settings))
    text = export_gguf(tmp_path / "model", tmp_path / "model.gguf").modelfile.read_text()
    assert text.endswith(
        'PARAMETER stop "<|eot_id|>"\nPARAMETER num_ctx 128\nPARAMETER temperature 0.6\nPARAMETER top_p 0.9\n'
    )
