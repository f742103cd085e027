"""Small GGUF files with random weights, in every type and architecture."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from mlx_suite.gguf.tensor_names import ROPE_FACTORS, gguf_name, weight_shapes
from mlx_suite.text.token_bytes import BYTE_OF_LETTER

SHAPE: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "tie_word_embeddings": True,
}
"""A shape that blocks of 256 divide."""
READABLE = (
    *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
    *(
        "IQ1_S",
        "IQ1_M",
        "IQ2_XXS",
        "IQ2_XS",
        "IQ2_S",
        "IQ3_XXS",
        "IQ3_S",
        "IQ4_NL",
        "IQ4_XS",
        "MXFP4",
        "TQ1_0",
        "TQ2_0",
    ),
)
"""Types of weights that files of models have."""


@cache
def random_rows(type: str, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Random stored rows (rows, bytes per row) whose weights are finite and below 10."""
    kind = gguf.GGMLQuantizationType[type]
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    count = rows * columns // block
    random = np.random.RandomState(seed)
    kept = np.zeros((0, block_bytes), np.uint8)
    with np.errstate(all="ignore"):
        while len(kept) < count:
            blocks = random.randint(0, 256, (2 * count + 256, block_bytes)).astype(np.uint8)
            values = gguf.quants.dequantize(blocks, kind)
            kept = np.concatenate([kept, blocks[(np.abs(values) < 10).all(axis=-1)]])
    return kept[:count].reshape(rows, -1)


def weights_of(architecture: str, config: Mapping[str, Any], type: str = "F32") -> dict[str, np.ndarray]:
    """Random stored weights by llama.cpp's names: matrices in `type`, vectors near 1 in fp32."""
    weights = {}
    for number, (name, shape) in enumerate(weight_shapes(config, architecture)):
        if len(shape) == 1:
            vector = 1 + 0.2 * np.random.RandomState(number).standard_normal(shape)
            weights[gguf_name(name, architecture)] = vector.astype(np.float32)
        else:
            weights[gguf_name(name, architecture)] = random_rows(type, *shape, seed=number % 5)
    return weights


def write_file(
    path: Path,
    architecture: str = "llama",
    type: str = "F32",
    *,
    weights: Mapping[str, np.ndarray] | None = None,
    rope_factors: np.ndarray | None = None,
    metadata: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Write a file of one model.

    Args:
        weights: Stored weights; None: random ones. Byte arrays are in `type`.
        metadata: More keys; None as a value leaves out a key that is written otherwise.
        changes: Other values of `SHAPE`.
    """
    config = {**SHAPE, **changes}
    writer = gguf.GGUFWriter(path, architecture)
    keys: dict[str, Any] = {
        f"{architecture}.context_length": 512,
        f"{architecture}.embedding_length": config["hidden_size"],
        f"{architecture}.block_count": config["num_hidden_layers"],
        f"{architecture}.feed_forward_length": config["intermediate_size"],
        f"{architecture}.attention.head_count": config["num_attention_heads"],
        f"{architecture}.attention.head_count_kv": config["num_key_value_heads"],
        f"{architecture}.attention.key_length": config["head_dim"],
        f"{architecture}.attention.value_length": config["head_dim"],
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-6,
        f"{architecture}.rope.freq_base": 10000.0,
        **(metadata or {}),
    }
    for key, value in keys.items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None:
            writer.add_uint32(key, value)
    _add_vocabulary(writer, config["vocab_size"])
    for name, stored in (weights_of(architecture, config, type) if weights is None else weights).items():
        kind = gguf.GGMLQuantizationType[type] if stored.dtype == np.uint8 else None
        writer.add_tensor(name, stored, raw_dtype=kind)
    if rope_factors is not None:
        writer.add_tensor(ROPE_FACTORS, rope_factors.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """256 byte tokens, ` t`, then control tokens: BOS (257), EOS (258) and others."""
    control = [f"<control {number}>" for number in range(size - 257)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([*BYTE_OF_LETTER, "Ġt", *control])
    writer.add_token_types([1] * 257 + [3] * len(control))
    writer.add_token_merges(["Ġ t"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
