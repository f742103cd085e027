"""Weights of Llama, Mistral and Gemma 2 in llama.cpp's names, row order and norm convention.

llama.cpp computes each family by fixed rules (`src/models/llama.cpp`, `src/models/gemma2.cpp`). If a model deviates
from them, its weights are changed to give the same function, or the export is refused.

H heads, D head dimension, d hidden size.
"""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np

from mlx_suite.modeling.config import ModelConfig, usual_layers
from mlx_suite.modeling.rope import inverse_frequencies

ROPE_FACTORS = "rope_freqs.weight"
"""Llama 3.1's frequency scaling: one divisor per rotated pair, (D / 2,)."""

_TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_BLOCK = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
}
_NORMS = {
    "llama": {"post_attention_layernorm": "ffn_norm"},
    "gemma2": {
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
}
"""Hugging Face names whose meaning depends on the family."""


def architecture(config: ModelConfig) -> str:
    """llama.cpp's name of the family, which is `llama` for Mistral."""
    return "gemma2" if config.model_type == "gemma2" else "llama"


def gguf_name(name: str, config: ModelConfig) -> str:
    """llama.cpp's name of a parameter: `blk.3.attn_q.weight` for `model.layers.3.self_attn.q_proj.weight`."""
    path, _, kind = name.rpartition(".")
    if path in _TOP:
        return f"{_TOP[path]}.{kind}"
    _, layers, number, part = path.split(".", 3)
    assert layers == "layers", name
    return f"blk.{number}.{(_BLOCK | _NORMS[architecture(config)])[part]}.{kind}"


def gguf_array(name: str, array: mx.array, config: ModelConfig) -> mx.array:
    """The parameter `name` in fp32 as llama.cpp expects it, of the same shape."""
    array = array.astype(mx.float32)
    path, _, _ = name.rpartition(".")
    if architecture(config) == "gemma2":
        if path.endswith("norm"):
            return array + 1.0  # llama.cpp multiplies by the weight, Gemma by weight + 1
        if path.endswith("self_attn.q_proj"):
            return array * _query_factor(config)
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
    """Context up to which llama.cpp matches the model: it has no sliding window for Mistral."""
    windows = [window for window in config.windows if window is not None]
    if architecture(config) == "llama" and windows:
        return min(config.max_position_embeddings, *windows)
    return config.max_position_embeddings


def misfits(config: ModelConfig) -> Iterator[str]:
    """Yield each property of the configuration that llama.cpp cannot compute."""
    if architecture(config) == "llama":
        return
    window = next((w for w in config.windows if w is not None), None)
    kinds = ["full_attention" if w is None else "sliding_attention" for w in config.windows]
    if window is None or kinds != usual_layers("gemma2", len(kinds)):
        yield "its local layers are not every other layer starting with the first, as llama.cpp assumes"
    if config.attn_logit_softcapping is None:
        yield "it has no soft-cap on attention (attn_logit_softcapping), and llama.cpp always applies one"
    if config.final_logit_softcapping is None:
        yield "it has no soft-cap on logits (final_logit_softcapping), and llama.cpp always applies one"
    if config.rope.kind == "llama3":
        yield "it scales RoPE as Llama 3.1 does, which llama.cpp does not do for a Gemma 2"
    if config.attention_bias:
        yield "its attention has biases, which llama.cpp does not add for a Gemma 2"
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

    llama.cpp does not read `query_pre_attn_scalar`: it scales by 1/√D, but by 1/√(d / H) for models of 46 layers, which
    it assumes to be the 27B model. RoPE is linear, so the factor may be applied before it.
    """
    theirs = config.hidden_size // config.num_attention_heads if config.num_hidden_layers == 46 else config.head_dim
    return config.scale * float(theirs) ** 0.5
