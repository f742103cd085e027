"""Models of real shapes with random weights, to measure a machine without a download."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map

from mlx_suite.checkpoints.load import build_model
from mlx_suite.checkpoints.quantization import quantize_base
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.runtime.machine import REFERENCE_MODELS

Config = dict[str, Any]

_LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def _complete(config: Config) -> Config:
    """Add the keys that a complete model needs to a reference model's config."""
    if config["model_type"] == "gemma2":
        scalar = {3584: 256, 4608: 144}.get(config["hidden_size"], config["head_dim"])
        return {**config, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "query_pre_attn_scalar": scalar}
    if config["model_type"] == "gemma3_text":
        scaling = {"rope_type": "linear", "factor": 8.0}
        return {**config, "rms_norm_eps": 1e-6, "query_pre_attn_scalar": 256, "rope_scaling": scaling}
    if config["model_type"] == "qwen3":
        return {**config, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0}
    return {**config, "rms_norm_eps": 1e-5, "rope_theta": 500000.0}


LLAMA_1B, LLAMA_8B, GEMMA2_9B, GEMMA3_4B, QWEN3_8B = (
    _complete(REFERENCE_MODELS[name])
    for name in ("Llama 3.2 1B", "Llama 3 8B", "Gemma 2 9B", "Gemma 3 4B", "Qwen 3 8B")
)
SPEED_SHAPES = {
    "Llama 1B": LLAMA_1B,
    "Llama 8B": LLAMA_8B,
    "Gemma 2 9B": GEMMA2_9B,
    "Gemma 3 4B": GEMMA3_4B,
    "Qwen 3 8B": QWEN3_8B,
}

_TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 256,
    "max_position_embeddings": 2048,
}
_TWO_LAYERS = {"num_hidden_layers": 2, "vocab_size": 16384}
"""Correctness needs real widths but not depth: all layers are alike, and the CPU has to compute them in fp32."""
_WINDOW = 24
"""Sliding window of the correctness checks; their texts are several times longer."""
_CAPS = {"attn_logit_softcapping": 0.5, "final_logit_softcapping": 2.0}
"""Random weights give scores of about ±2, on which Gemma's own caps of 50 and 30 would have no effect."""

FAMILIES: dict[str, Config] = {
    "Llama 3 8B": LLAMA_8B | _TWO_LAYERS,
    "Llama 3.1 8B, RoPE": LLAMA_8B | _TWO_LAYERS | {"rope_scaling": _LLAMA3_SCALING},
    "Mistral 7B, window": LLAMA_8B | _TWO_LAYERS | {"model_type": "mistral", "sliding_window": _WINDOW},
    "Gemma 2 9B, caps": GEMMA2_9B | _TWO_LAYERS | {"sliding_window": _WINDOW} | _CAPS,
    "Gemma 3 4B, two RoPEs": GEMMA3_4B | _TWO_LAYERS | {"sliding_window": _WINDOW, "sliding_window_pattern": 2},
    "Qwen 3 8B, QK-norm": QWEN3_8B | _TWO_LAYERS,
}


def tiny(config: Config) -> Config:
    """Return the config shrunk to a size that runs immediately on any CPU."""
    return config | _TINY


def random_model(config: Config, dtype: mx.Dtype, bits: int | None = None, seed: int = 0) -> nn.Module:
    """Build a model with random weights: matrices ~ N(0, 1/columns), vectors as initialised.

    Arrays are made one at a time, so peak memory is the model plus its largest array in fp32.

    Args:
        bits: Bits per weight of quantized matrices and embedding, in groups of 64; None keeps `dtype`.
    """
    model = build_model(ModelConfig.from_dict(config))
    keys = iter(mx.random.split(mx.random.key(seed), len(tree_flatten(model.parameters()))))

    def draw(array: mx.array) -> mx.array:
        key = next(keys)
        if array.ndim > 1:
            array = mx.random.normal(array.shape, scale=array.shape[-1] ** -0.5, key=key)
        array = array.astype(dtype)
        mx.eval(array)
        return array

    model.update(tree_map(draw, model.parameters()))
    if bits is not None:
        quantize_base(model, bits)
    model.eval()
    return model


def in_fp32(model: nn.Module, config: Config) -> nn.Module:
    """Build a dense fp32 model with the same weights, dequantized."""
    weights = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding):
            how = {"group_size": module.group_size, "bits": module.bits, "mode": module.mode}
            scales, biases = (module[name].astype(mx.float32) for name in ("scales", "biases"))
            weights[f"{path}.weight"] = mx.dequantize(module.weight, scales, biases, **how)
        elif not module.children():
            weights |= {f"{path}.{name}": array.astype(mx.float32) for name, array in module.parameters().items()}
    reference = build_model(ModelConfig.from_dict(config))
    reference.load_weights(list(weights.items()))
    mx.eval(reference.parameters())
    reference.eval()
    return reference


@contextmanager
def on(device: mx.Device | mx.DeviceType) -> Iterator[None]:
    """Make `device` MLX's default within the block."""
    before = mx.default_device()
    mx.set_default_device(device)
    try:
        yield
    finally:
        mx.set_default_device(before)


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """Measured peak speeds of this machine; other speeds are reported as shares of them."""

    bandwidth: float
    """GB/s of a matrix-vector product."""
    compute: float
    """GFLOP/s of a square matrix product, bf16 on a GPU, fp32 on the CPU."""
