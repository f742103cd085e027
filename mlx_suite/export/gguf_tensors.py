"""Weights of our families in llama.cpp's names, row order and norm convention.

llama.cpp computes each family by fixed rules (`src/models/llama.cpp`, `gemma2.cpp`, `gemma3.cpp`, `qwen3.cpp`). If a
model deviates from them, its weights are changed to give the same function, or the export is refused.

H heads, D head dimension, d hidden size.
"""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np

from mlx_suite.gguf.tensor_names import LAYERS_OF_27B
from mlx_suite.modeling.config import FULL, GEMMA3_TYPES, GEMMA_TYPES, QWEN3_TYPES, SLIDING, ModelConfig, usual_layers
from mlx_suite.modeling.rope import inverse_frequencies

_FAMILIES = {"gemma2": "Gemma 2", "gemma3": "Gemma 3", "qwen3": "Qwen 3"}


def architecture(config: ModelConfig) -> str:
    """llama.cpp's name of the family, which is `llama` for Mistral."""
    return {"mistral": "llama", "gemma3_text": "gemma3"}.get(config.model_type, config.model_type)


def gguf_array(name: str, array: mx.array, config: ModelConfig) -> mx.array:
    """The parameter `name` in fp32 as llama.cpp expects it, of the same shape."""
    array = array.astype(mx.float32)
    path, _, _ = name.rpartition(".")
    if config.model_type in GEMMA_TYPES:
        if path.endswith("norm"):
            array = array + 1.0  # llama.cpp multiplies by the weight, Gemma by weight + 1
        # A norm would undo a factor before it.
        scaled = "self_attn.q_norm" if config.model_type in GEMMA3_TYPES else "self_attn.q_proj"
        return array * _query_factor(config) if path.endswith(scaled) else array
    if config.model_type in QWEN3_TYPES:
        return array
    if path.endswith("self_attn.q_proj"):
        return _paired(array, config.num_attention_heads)
    if path.endswith("self_attn.k_proj"):
        return _paired(array, config.num_key_value_heads)
    return array


def rope_factors(config: ModelConfig) -> np.ndarray | None:
    """Divisors of the RoPE frequencies, (D / 2,); None if the RoPE is not of kind llama3."""
    if config.rope.kind != "llama3":
        return None
    plain = [config.rope.theta ** (-2.0 * i / config.head_dim) for i in range(config.head_dim // 2)]
    scaled = inverse_frequencies(config.rope, config.head_dim)
    return np.array([p / s for p, s in zip(plain, scaled, strict=True)], dtype=np.float32)


def usable_context(config: ModelConfig) -> int:
    """Context up to which llama.cpp matches the model: it has no sliding window for Mistral and Qwen 3."""
    windows = [window for window in config.windows if window is not None]
    if config.model_type not in GEMMA_TYPES and windows:
        return min(config.max_position_embeddings, *windows)
    return config.max_position_embeddings


def misfits(config: ModelConfig) -> Iterator[str]:
    """Yield each property of the configuration that llama.cpp cannot compute."""
    if config.rope.kind not in ("default", "linear", "llama3"):
        yield f"it scales RoPE by {config.rope.kind}, which is not written to GGUF files"
    if architecture(config) == "llama":
        return
    family = _FAMILIES[architecture(config)]
    if config.rope.kind == "llama3":
        yield f"it scales RoPE as Llama 3.1 does, which llama.cpp does not do for a {family}"
    if config.attention_bias:
        yield f"its attention has biases, which llama.cpp does not add for a {family}"
    if config.model_type in QWEN3_TYPES:
        return
    kinds = [FULL if w is None else SLIDING for w in config.windows]
    usual = usual_layers({"model_type": config.model_type, "num_hidden_layers": len(kinds)})
    if config.model_type in GEMMA3_TYPES:
        if kinds != usual:
            yield "its global layers are not every sixth one, as llama.cpp assumes"
        if config.attn_logit_softcapping is not None:
            yield "it has a soft-cap on attention (attn_logit_softcapping), which llama.cpp does not apply"
        if config.local_rope is not None and config.local_rope.kind != "default":
            yield "it scales the RoPE of local layers, which llama.cpp does not do"
    else:
        if all(w is None for w in config.windows) or kinds != usual:
            yield "its local layers are not every other layer starting with the first, as llama.cpp assumes"
        if config.attn_logit_softcapping is None:
            yield "it has no soft-cap on attention (attn_logit_softcapping), and llama.cpp always applies one"
        if config.final_logit_softcapping is None:
            yield "it has no soft-cap on logits (final_logit_softcapping), and llama.cpp always applies one"
    if not config.tie_word_embeddings:
        yield "its head is not tied to the embedding, and llama.cpp has only the embedding"


def _paired(array: mx.array, heads: int) -> mx.array:
    """Reorder the rows (H·D, …) of a query or key projection from halves to adjacent pairs.

    RoPE rotates row i of a head with row i + D / 2 in Hugging Face's order, and row 2i with 2i + 1 in llama.cpp's.
    """
    halves = array.reshape(heads, 2, -1, *array.shape[1:])  # (H, 2, D / 2, …)
    return halves.swapaxes(1, 2).reshape(array.shape)


def _query_factor(config: ModelConfig) -> float:
    """Factor of the queries that compensates for llama.cpp's scale.

    llama.cpp does not read `query_pre_attn_scalar`: it scales by 1/√D, but by 1/√(d / H) for the number of layers of
    the 27B model. RoPE is linear, so the factor may be applied before it.
    """
    of_27b = LAYERS_OF_27B[architecture(config)]
    theirs = config.hidden_size // config.num_attention_heads if config.num_hidden_layers == of_27b else config.head_dim
    return config.scale * float(theirs) ** 0.5
