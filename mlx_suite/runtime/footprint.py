"""Memory that a model needs, computed from its `config.json`.

Exact for Llama, Mistral, Gemma 2 and 3 and Qwen 3 (no biases, gated MLP), an estimate for other dense models.
Configuration keys are Hugging Face's. Sizes are in bytes; weights are counted in bits because quantized weights carry
scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]

# Bits of scales and biases per group of weights, by MLX quantization mode.
_SHARED_BITS = {"affine": 32, "mxfp4": 8, "mxfp8": 8, "nvfp4": 8}
_DEFAULT_GROUP = {"affine": 64, "mxfp4": 32, "mxfp8": 32, "nvfp4": 16}
_FLOAT_BITS = {"float32": 32, "float16": 16, "bfloat16": 16}


def parameter_count(config: Config) -> int:
    """Parameters of the model; a tied head counts once."""
    return _matrix_parameters(config) + _embedding_parameters(config) + _norm_parameters(config)


def bits_per_weight(config: Config) -> float:
    """Bits per stored weight, scales included: 4.5 for 4 bits in groups of 64, 16 for bfloat16."""
    quantization = config.get("quantization")
    if quantization:
        mode = quantization.get("mode", "affine")
        group = quantization.get("group_size") or _DEFAULT_GROUP.get(mode, 64)
        return float(quantization["bits"] + _SHARED_BITS.get(mode, 32) / group)
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    return float(_FLOAT_BITS.get(dtype.rpartition(".")[2], 16))


def weight_bytes(config: Config, bits: float | None = None) -> int:
    """Memory of the weights.

    Args:
        config: The model's configuration.
        bits: Bits per weight once loaded, such as 32 on a CPU; None for the checkpoint's own.
    """
    bits = bits_per_weight(config) if bits is None else bits
    matrices = _matrix_parameters(config) + _embedding_parameters(config)
    return round((matrices * bits + _norm_parameters(config) * max(bits, 16)) / 8)


def bytes_read_per_token(config: Config, bits: float | None = None) -> int:
    """Weight bytes that a decode step reads: all weights except an untied input embedding.

    Memory bandwidth divided by this is the upper bound of tokens per second at batch size 1.
    """
    bits = bits_per_weight(config) if bits is None else bits
    head = int(config["vocab_size"] * config["hidden_size"])
    return round((_matrix_parameters(config) + head) * bits / 8)


def kv_bytes_per_token(config: Config, element_bytes: int = 2) -> int:
    """KV cache bytes per token over all layers, ignoring sliding windows."""
    return int(config["num_hidden_layers"]) * _kv_bytes_per_layer(config, element_bytes)


def cache_bytes(config: Config, tokens: int, element_bytes: int = 2) -> int:
    """KV cache bytes of a row of `tokens` tokens; local layers keep at most their sliding window."""
    local = local_layers(config)
    everywhere = int(config["num_hidden_layers"]) - local
    kept = min(tokens, int(config.get("sliding_window") or tokens))
    return _kv_bytes_per_layer(config, element_bytes) * (everywhere * tokens + local * kept)


def local_layers(config: Config) -> int:
    """Number of layers with sliding-window attention."""
    if not config.get("sliding_window"):
        return 0
    if types := config.get("layer_types"):
        return sum(1 for kind in types if kind == "sliding_attention")
    layers = int(config["num_hidden_layers"])
    if config.get("model_type") == "gemma2":
        return (layers + 1) // 2  # layers 0, 2, 4, … are local
    if config.get("model_type") == "gemma3_text":
        return layers - layers // int(config.get("sliding_window_pattern") or 6)  # every sixth is global
    if config.get("model_type") == "qwen3" and config.get("use_sliding_window"):
        return max(0, layers - int(config.get("max_window_layers", 28)))
    return layers if config.get("model_type") == "mistral" else 0


def _head_dim(config: Config) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _kv_heads(config: Config) -> int:
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def _kv_bytes_per_layer(config: Config, element_bytes: int) -> int:
    return 2 * _kv_heads(config) * _head_dim(config) * element_bytes


def _matrix_parameters(config: Config) -> int:
    """Parameters of the attention and MLP matrices of all layers."""
    hidden = config["hidden_size"]
    attention = 2 * hidden * _head_dim(config) * (config["num_attention_heads"] + _kv_heads(config))
    mlp = 3 * hidden * config["intermediate_size"]
    return int(config["num_hidden_layers"] * (attention + mlp))


def _embedding_parameters(config: Config) -> int:
    """Parameters of the input embedding, and of the head if it is not tied."""
    # Gemma's published configurations omit the key and tie; every other family states it.
    tied = config.get("tie_word_embeddings", config.get("model_type", "").startswith("gemma"))
    return int(config["vocab_size"] * config["hidden_size"] * (1 if tied else 2))


def _norm_parameters(config: Config) -> int:
    model_type, hidden = config.get("model_type"), config["hidden_size"]
    per_layer = hidden * (4 if model_type in ("gemma2", "gemma3_text") else 2)
    if model_type in ("gemma3_text", "qwen3"):
        per_layer += 2 * _head_dim(config)  # of queries and keys
    return int(config["num_hidden_layers"] * per_layer + hidden)
