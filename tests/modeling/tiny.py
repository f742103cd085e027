"""Small models of every family, and the configurations of published models."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_suite.checkpoints.load import build_model
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.gemma2 import Gemma2
from mlx_suite.modeling.llama import Llama

WINDOW = 6

SHAPE: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 128,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": SHAPE | {"model_type": "llama"},
    "mistral": SHAPE | {"model_type": "mistral", "sliding_window": WINDOW},
    "gemma2": SHAPE | {"model_type": "gemma2", "sliding_window": WINDOW, "query_pre_attn_scalar": 8},
    "gemma3_text": SHAPE
    | {"model_type": "gemma3_text", "sliding_window": WINDOW, "query_pre_attn_scalar": 8, "sliding_window_pattern": 3},
    "qwen3": SHAPE | {"model_type": "qwen3"},
}


def tiny_config(family: str, **changes: Any) -> ModelConfig:
    return ModelConfig.from_dict(FAMILIES[family] | changes)


def tiny_model(family: str, seed: int = 0, **changes: Any) -> Llama | Gemma2:
    """A reproducible model with selective attention and norm weights other than 1."""
    mx.random.seed(seed)
    model = build_model(tiny_config(family, **changes))
    for _, module in model.named_modules():
        if isinstance(module, nn.Linear):
            module.weight = mx.random.normal(module.weight.shape) * 1.5 / module.weight.shape[1] ** 0.5
        elif isinstance(module, nn.Embedding):
            module.weight = mx.random.normal(module.weight.shape) * 0.5
        elif "Norm" in type(module).__name__:
            module.weight = module.weight + 0.3 * mx.random.normal(module.weight.shape)
    mx.eval(model.parameters())
    return model


def tokens(length: int, rows: int = 1, seed: int = 0) -> mx.array:
    """(rows, length) token ids of the tiny vocabulary."""
    return mx.array(np.random.RandomState(seed).randint(0, SHAPE["vocab_size"], (rows, length)))


def largest_difference(one: mx.array, other: mx.array) -> float:
    """max |one − other|; NaN if either has one, so that any bound fails."""
    return mx.abs(one.astype(mx.float32) - other.astype(mx.float32)).max().item()


def _llama(d: int, ff: int, layers: int, heads: int, key_heads: int, vocab: int, **more: Any) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": d,
        "intermediate_size": ff,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "vocab_size": vocab,
        "rms_norm_eps": 1e-5,
    } | more


def _gemma2(d: int, ff: int, layers: int, heads: int, key_heads: int, head_dim: int, scalar: int) -> dict[str, Any]:
    shape = _llama(d, ff, layers, heads, key_heads, vocab=256000, head_dim=head_dim, rms_norm_eps=1e-6)
    return shape | {"model_type": "gemma2", "query_pre_attn_scalar": scalar, "sliding_window": 4096}


def _gemma3(d: int, ff: int, layers: int, heads: int, key_heads: int, **more: Any) -> dict[str, Any]:
    shape = _llama(d, ff, layers, heads, key_heads, vocab=262144, head_dim=256, rms_norm_eps=1e-6)
    rope = {"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0}
    return shape | rope | {"model_type": "gemma3_text", "query_pre_attn_scalar": 256, "sliding_window": 512} | more


def _qwen3(d: int, ff: int, layers: int, heads: int, key_heads: int, tied: bool) -> dict[str, Any]:
    shape = _llama(d, ff, layers, heads, key_heads, vocab=151936, head_dim=128, rms_norm_eps=1e-6)
    unused = {"use_sliding_window": False, "sliding_window": None, "max_window_layers": layers}
    return shape | unused | {"model_type": "qwen3", "rope_theta": 1000000.0, "tie_word_embeddings": tied}


def llama3_rope(factor: float) -> dict[str, Any]:
    scaling = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    return {"rope_theta": 500000.0, "rope_scaling": scaling | {"original_max_position_embeddings": 8192}}


PUBLISHED: dict[str, dict[str, Any]] = {
    "Llama 3.2 1B": _llama(2048, 8192, 16, 32, 8, 128256, tie_word_embeddings=True, **llama3_rope(32.0)),
    "Llama 3.2 3B": _llama(3072, 8192, 28, 24, 8, 128256, tie_word_embeddings=True, **llama3_rope(32.0)),
    "Llama 3.1 8B": _llama(4096, 14336, 32, 32, 8, 128256, **llama3_rope(8.0)),
    "Mistral 7B v0.1": _llama(4096, 14336, 32, 32, 8, 32000, model_type="mistral", sliding_window=4096),
    "Gemma 2 2B": _gemma2(2304, 9216, 26, 8, 4, 256, 256),
    "Gemma 2 9B": _gemma2(3584, 14336, 42, 16, 8, 256, 256),
    "Gemma 2 27B": _gemma2(4608, 36864, 46, 32, 16, 128, 144),
    "Gemma 3 270M": _gemma3(640, 2048, 18, 4, 1),
    "Gemma 3 1B": _gemma3(1152, 6912, 26, 4, 1),
    "Qwen 3 0.6B": _qwen3(1024, 3072, 28, 16, 8, tied=True),
    "Qwen 3 8B": _qwen3(4096, 12288, 36, 32, 8, tied=False),
    "TinyStories 260K": _llama(64, 172, 5, 8, 4, 512, tie_word_embeddings=True),
    "TinyStories 15M": _llama(288, 768, 6, 6, 6, 32000, tie_word_embeddings=True),
}
"""`config.json` of models with published parameter counts."""
