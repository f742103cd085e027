"""`describe`: facts about a checkpoint without loading it."""

import json
from math import prod
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_suite.checkpoints.description import StopToken, describe
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.footprint import kv_bytes_per_token
from tests.hub.server import checkpoint

LLAMA = json.loads(checkpoint()["config.json"])
GEMMA2 = {
    "model_type": "gemma2",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "sliding_window": 16,
    "rms_norm_eps": 1e-6,
    "vocab_size": 100,
    "eos_token_id": 1,
}


def folder_with(folder: Path, config: dict[str, Any], tensors: dict[str, mx.array], **texts: str) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    for name, text in texts.items():
        (folder / f"{name}.json").write_text(text)
    return folder


def test_a_llama_is_described_from_its_files(tmp_path: Path) -> None:
    files = checkpoint(shards=2, rows=32)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    found = describe(tmp_path)
    assert (found.model_type, found.architecture) == ("llama", "LlamaForCausalLM")
    assert (found.layers, found.heads, found.kv_heads, found.head_dim) == (2, 4, 2, 16)
    assert (found.hidden_size, found.vocab_size, found.context) == (64, 32, 512)
    assert (found.window, found.window_layers) == (None, 0)
    assert (found.dtype, found.quantization) == ("float32", None)
    assert found.parameters == 2 * 32 * 64
    assert found.size_bytes == sum(len(data) for data in files.values())
    # keys and values × 2 layers × 2 heads × 16 elements × 4 bytes
    assert found.kv_bytes_per_token == 2 * 2 * 2 * 16 * 4
    assert found.chat_template
    assert found.stop_tokens == (StopToken(id=3, text="<|end|>"), StopToken(id=4, text=None))


def test_past_the_window_only_every_other_layer_of_gemma2_grows(tmp_path: Path) -> None:
    folder_with(tmp_path, GEMMA2, {"model.norm.weight": mx.zeros(64, mx.bfloat16)})
    found = describe(tmp_path)
    assert (found.window, found.window_layers, found.dtype) == (16, 2, "bfloat16")
    assert found.kv_bytes_per_token == 2 * 4 * 2 * 32 * 2
    assert found.kv_bytes_per_token == kv_bytes_per_token(GEMMA2)  # as in `doctor`
    assert found.kv_bytes_per_token_past_window == found.kv_bytes_per_token // 2


@pytest.mark.parametrize(("bits", "group_size"), [(4, 32), (8, 64), (3, 64), (2, 128)])
def test_quantized_weights_are_counted_unpacked(bits: int, group_size: int, tmp_path: Path) -> None:
    packed, scales, biases = mx.quantize(
        mx.random.normal((24, 256)).astype(mx.bfloat16), group_size=group_size, bits=bits
    )
    tensors = {
        "model.layers.0.mlp.up_proj.weight": packed,
        "model.layers.0.mlp.up_proj.scales": scales,
        "model.layers.0.mlp.up_proj.biases": biases,
        "model.norm.weight": mx.zeros(256, mx.bfloat16),
    }
    settings = {"group_size": group_size, "bits": bits}
    found = describe(folder_with(tmp_path, LLAMA | {"quantization": settings}, tensors))
    assert found.parameters == 24 * 256 + 256
    assert found.quantization == f"{bits} bits in groups of {group_size}"
    assert found.dtype == "bfloat16"


def test_another_quantization_mode_is_described_and_counted(tmp_path: Path) -> None:
    matrix = mx.random.normal((8, 128))
    packed, scales, *_ = mx.quantize(matrix, group_size=32, bits=4, mode="mxfp4")
    tensors = {"a.weight": packed, "a.scales": scales, "norm": mx.zeros(8, mx.bfloat16)}
    settings = {"group_size": 32, "bits": 4, "mode": "mxfp4"}
    found = describe(folder_with(tmp_path, LLAMA | {"quantization": settings}, tensors))
    assert (found.parameters, found.dtype) == (8 * 128 + 8, "bfloat16")
    assert found.quantization == "4 bits in groups of 32 (mxfp4)"


def test_layers_are_counted_by_their_own_group_size(tmp_path: Path) -> None:
    packed, scales, biases = mx.quantize(mx.random.normal((8, 128)), group_size=32, bits=8)
    tensors = {"lm_head.weight": packed, "lm_head.scales": scales, "lm_head.biases": biases}
    settings = {"group_size": 64, "bits": 4, "lm_head": {"group_size": 32, "bits": 8}}
    config = LLAMA | {"quantization": settings, "tie_word_embeddings": False}
    found = describe(folder_with(tmp_path, config, tensors))
    assert found.parameters == 8 * 128
    assert found.quantization == "4 bits in groups of 64, some layers differ"


def test_quantizations_of_other_tools_are_not_counted(tmp_path: Path) -> None:
    tensors = {"layer.qweight": mx.zeros((8, 4), mx.int32), "norm": mx.zeros(4, mx.float16)}
    config = LLAMA | {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    found = describe(folder_with(tmp_path, config, tensors))
    assert (found.parameters, found.quantization) == (None, "gptq, 4 bits")


def test_an_8b_model_is_counted_without_reading_weights(tmp_path: Path) -> None:
    shapes = {
        "model.embed_tokens": (128256, 4096),
        "lm_head": (128256, 4096),
        "model.norm": (4096,),
    }
    layer = {
        "input_layernorm": (4096,),
        "post_attention_layernorm": (4096,),
        "self_attn.q_proj": (4096, 4096),
        "self_attn.k_proj": (1024, 4096),
        "self_attn.v_proj": (1024, 4096),
        "self_attn.o_proj": (4096, 4096),
        "mlp.gate_proj": (14336, 4096),
        "mlp.up_proj": (14336, 4096),
        "mlp.down_proj": (4096, 14336),
    }
    for number in range(32):
        shapes |= {f"model.layers.{number}.{name}": shape for name, shape in layer.items()}
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * prod(shape)
        header[f"{name}.weight"] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)  # a sparse file: 16 GB, a few kB on disk
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {"tie_word_embeddings": False}))
    assert describe(tmp_path).parameters == 8_030_261_248


def test_a_tied_head_stored_twice_is_counted_once(tmp_path: Path) -> None:
    table = mx.zeros((10, 4))
    tensors = {"model.embed_tokens.weight": table, "lm_head.weight": table}
    assert describe(folder_with(tmp_path, LLAMA, tensors)).parameters == 40


def test_another_architecture_is_described_from_its_config(tmp_path: Path) -> None:
    config = {
        "model_type": "olmo3",
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "sliding_window": 8,
    }
    found = describe(folder_with(tmp_path, config, {"w": mx.zeros(4, mx.float16)}))
    assert (found.heads, found.kv_heads, found.head_dim) == (4, 4, 32)
    assert (found.window, found.window_layers) == (8, 2)
    assert found.kv_bytes_per_token == 3 * 2 * 4 * 32 * 2
    assert found.kv_bytes_per_token_past_window == 2 * 4 * 32 * 2
    assert (found.context, found.architecture, found.stop_tokens) == (None, None, ())


def test_an_unknown_kind_of_cache_has_no_size(tmp_path: Path) -> None:
    config = {"model_type": "deepseek_v3", "num_hidden_layers": 2, "kv_lora_rank": 512}
    found = describe(folder_with(tmp_path, config, {"w": mx.zeros(4)}))
    assert found.kv_bytes_per_token is None


def test_stop_tokens_fall_back_to_the_config_and_are_shown_as_text(tmp_path: Path) -> None:
    added = json.dumps({"added_tokens_decoder": {"1": {"content": "<eos>"}}, "chat_template": "x"})
    folder_with(tmp_path, GEMMA2, {"w": mx.zeros(4)}, tokenizer_config=added)
    found = describe(tmp_path)
    assert found.stop_tokens == (StopToken(id=1, text="<eos>"),)
    assert found.chat_template


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
def test_a_folder_without_a_readable_config_is_rejected(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError) as caught:
        describe(tmp_path)
    assert caught.value.where == str(tmp_path / "config.json")
