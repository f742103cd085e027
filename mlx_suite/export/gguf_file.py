"""Atomic writing of a GGUF file: header, metadata, tensors.

The layout comes from llama.cpp's writer, the `gguf` package. Weights are converted and written one at a time, so only
the largest one must fit in memory.

Format: ggml's `docs/gguf.md`.
"""

import os
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from mlx_suite.checkpoints.weights import refuse_not_finite
from mlx_suite.export.gguf_tensors import (
    architecture,
    gguf_array,
    rope_factors,
    usable_context,
)
from mlx_suite.export.gguf_vocabulary import GGUFVocabulary
from mlx_suite.gguf.tensor_names import ROPE_FACTORS, gguf_name
from mlx_suite.modeling.config import GEMMA_TYPES, ModelConfig
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import disk_errors, sync_folder

if TYPE_CHECKING:
    from gguf import GGUFWriter

FILE_TYPES = {"f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "f32": "ALL_F32", "q8_0": "MOSTLY_Q8_0"}
"""Types of matrices, and llama.cpp's names of the file types. Vectors are always fp32, as llama.cpp requires."""
_Q8_BLOCK = 32


def write_gguf(
    path: Path,
    weights: MutableMapping[str, mx.array],
    *,
    config: ModelConfig,
    vocabulary: GGUFVocabulary,
    chat_template: str | None,
    type: str,
    name: str,
    source: Path,
) -> int:
    """Write the file atomically; returns its number of tensors.

    Args:
        weights: Dense parameters by their names in a checkpoint, preferably not yet evaluated. Emptied while writing.
        chat_template: Jinja source.
        type: Type of the matrices, one of `FILE_TYPES`.
        name: Name of the model in listings.
        source: Folder of the checkpoint, for errors.

    Raises UserError for NaN, inf and values beyond float16's range, and for disk errors.
    """
    import gguf

    writer = gguf.GGUFWriter(None, architecture(config))
    _describe(writer, config, name, type)
    _describe_vocabulary(writer, vocabulary, chat_template)
    stored = {key: _stored_type(array.shape, type) for key, array in weights.items()}
    for key, array in weights.items():
        kind = gguf.GGMLQuantizationType[stored[key].upper()]
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        num_bytes = array.size // block * block_bytes
        # For any dtype but uint8 the writer expects the shape in elements, not bytes.
        writer.add_tensor_info(
            gguf_name(key, architecture(config)), array.shape, np.dtype(np.float32), num_bytes, raw_dtype=kind
        )
    factors = rope_factors(config)
    if factors is not None:
        writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes)
    tensors = len(weights) + (factors is not None)

    partial = path.with_name(f".{path.name}.partial")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            writer.write_header_to_file(partial)
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            [file] = writer.fout
            writer.write_padding(file, file.tell())
            for key in stored:
                array = weights.pop(key)
                refuse_not_finite({key: array}, source)
                array = gguf_array(key, array, config)
                _append(writer, file, _encoded(gguf, key, array, stored[key]))
            if factors is not None:
                _append(writer, file, factors)
            file.flush()
            os.fsync(file.fileno())
            writer.close()
            os.replace(partial, path)
        except BaseException:
            _close(writer)
            partial.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    return tensors


def _append(writer: "GGUFWriter", file: Any, array: np.ndarray) -> None:
    # Not `tofile`, whose errors do not report a full disk.
    file.write(np.ascontiguousarray(array).data.cast("B"))
    writer.write_padding(file, array.nbytes)


def _close(writer: "GGUFWriter") -> None:
    """Close the file after an error, discarding its buffer if necessary."""
    with suppress(OSError):
        writer.close()


def _stored_type(shape: tuple[int, ...], type: str) -> str:
    """Stored type of a tensor: fp32 for vectors, f16 for rows whose length 8-bit blocks do not divide."""
    if len(shape) == 1:
        return "f32"
    return "f16" if type == "q8_0" and shape[-1] % _Q8_BLOCK else type


def _encoded(gguf: Any, name: str, array: mx.array, type: str) -> np.ndarray:
    """Convert an fp32 array to its stored type."""
    if type == "bf16":
        bits = array.astype(mx.bfloat16).view(mx.uint16)
        return np.array(bits)
    if type == "f16":
        half = np.array(array.astype(mx.float16))
        if not np.isfinite(half).all():
            raise UserError(f"{name} has values that float16 cannot hold", "f16", "choose the type bf16 or f32")
        return half
    full = np.array(array)
    mx.clear_cache()
    encoded: np.ndarray = gguf.quants.quantize(full, gguf.GGMLQuantizationType.Q8_0) if type == "q8_0" else full
    return encoded


def _describe(writer: "GGUFWriter", config: ModelConfig, name: str, type: str) -> None:
    """Write the keys `general.*` and those of the architecture."""
    import gguf

    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[type]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(usable_context(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope.theta)
    if config.rope.kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope.factor)
    if config.attn_logit_softcapping is not None:
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if config.final_logit_softcapping is not None:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if config.model_type in GEMMA_TYPES:
        # A Gemma 3 of fewer than six layers may have local layers only, or none.
        writer.add_sliding_window(next((w for w in config.windows if w is not None), config.max_position_embeddings))
    if config.local_rope is not None:
        writer.add_rope_freq_base_swa(config.local_rope.theta)


def _describe_vocabulary(writer: "GGUFWriter", vocabulary: GGUFVocabulary, chat_template: str | None) -> None:
    """Write the keys `tokenizer.*`."""
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.model == "gpt2":
        writer.add_token_merges(vocabulary.merges)
    else:
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_space_prefix(vocabulary.adds_space)
    for role, index in vocabulary.ids.items():
        writer.add_uint32(f"tokenizer.ggml.{role}_token_id", index)
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_add_eos_token(False)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
