"""Names and shapes of weights, in llama.cpp's names and in Hugging Face's.

llama.cpp calls a layer's weights alike in all families, except that `ffn_norm` is the norm before the MLP, which
Hugging Face calls `post_attention_layernorm` unless a family has norms after its blocks too.
"""

from collections.abc import Iterator, Mapping
from typing import Any

TOP: Mapping[str, str] = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
BLOCK: Mapping[str, str] = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
}
_TWO_NORMS = {"post_attention_layernorm": "ffn_norm"}
_FOUR_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
NORMS: Mapping[str, Mapping[str, str]] = {
    "llama": _TWO_NORMS,
    "qwen2": _TWO_NORMS,
    "qwen3": _TWO_NORMS,
    "gemma2": _FOUR_NORMS,
    "gemma3": _FOUR_NORMS,
}
"""Norms around a layer's blocks, by llama.cpp's architecture."""

ROPE_FACTORS = "rope_freqs.weight"
"""Frequency scaling of Llama 3.1: one divisor per rotated pair, (D / 2,)."""

HEAD_NORMS = ("qwen3", "gemma3")
"""Architectures that normalise queries and keys of each head."""


def gguf_name(name: str, architecture: str) -> str:
    """llama.cpp's name of a parameter: `blk.3.attn_q.weight` for `model.layers.3.self_attn.q_proj.weight`."""
    path, _, kind = name.rpartition(".")
    if path in TOP:
        return f"{TOP[path]}.{kind}"
    _, layers, number, part = path.split(".", 3)
    assert layers == "layers", name
    return f"blk.{number}.{ {**BLOCK, **NORMS[architecture]}[part] }.{kind}"


def weight_shapes(config: Mapping[str, Any], architecture: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield Hugging Face's name and the shape of every weight of a model, in the order of the layers.

    Args:
        config: Its `config.json`, with `head_dim`.
    """
    width, inner = config["hidden_size"], config["intermediate_size"]
    head = config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", (config["vocab_size"], width)
    biases = {f"self_attn.{part}_proj" for part in "qkvo"} if config.get("attention_bias") else set()
    if architecture == "qwen2":
        biases = {f"self_attn.{part}_proj" for part in "qkv"}
    if config.get("mlp_bias"):
        biases |= {f"mlp.{part}_proj" for part in ("gate", "up", "down")}
    parts = {
        "self_attn.q_proj": (queries, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, queries),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
        "input_layernorm": (width,),
        **dict.fromkeys(NORMS[architecture], (width,)),
    }
    if architecture in HEAD_NORMS:
        parts |= {"self_attn.q_norm": (head,), "self_attn.k_norm": (head,)}
    for number in range(config["num_hidden_layers"]):
        for part, shape in parts.items():
            yield f"model.layers.{number}.{part}.weight", shape
            if part in biases:
                yield f"model.layers.{number}.{part}.bias", shape[:1]
    yield "model.norm.weight", (width,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], width)
