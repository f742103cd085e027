"""A checkpoint with random weights that writes short texts of few letters, so that every kind of row occurs early.

One hidden dimension is constant, because no layer writes to it. The head's weights for it act as a bias that sets the
mean probability of each token; the other dimensions make the text depend on its prefix.
"""

import json
import math
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlx_suite.text import load_tokenizer
from mlx_suite.text.training import train_llama3_tokenizer

LETTERS = "abc ?"
LAYERS, HIDDEN, HEADS, KV_HEADS, INNER = 2, 32, 2, 1, 64
CONTEXT = 256
TOKENS = 256 + 16
"""Vocabulary size: bytes, then Llama 3.1's special tokens."""
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN * KV_HEADS // HEADS, HIDDEN),
    "self_attn.v_proj": (HIDDEN * KV_HEADS // HEADS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}


def write_checkpoint(
    folder: Path, letters: str = LETTERS, end: float = 0.15, wrong_end: float = 0.01, rows: int = TOKENS
) -> Path:
    """Write a 2-layer Llama whose tokens are single letters, with `rows` rows in the embedding.

    `end` and `wrong_end` are roughly the probabilities of `<|eot_id|>` and `<|end_of_text|>` at any position.
    """
    train_llama3_tokenizer([], folder, vocab_size=TOKENS)
    tokenizer = load_tokenizer(folder)
    stops = [tokenizer.id_of(name) for name in ("<|eot_id|>", "<|end_of_text|>")]
    settings = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": rows,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "eos_token_id": stops,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    shares = {tokenizer.encode(letter)[0]: (1 - end - wrong_end) / len(letters) for letter in letters}
    shares.update(zip(stops, (end, wrong_end), strict=True))
    mx.save_safetensors(str(folder / "model.safetensors"), _weights(rows, shares))
    return folder


def _weights(vocabulary: int, shares: dict[int, float]) -> dict[str, mx.array]:
    random = np.random.default_rng(0)

    def matrix(rows: int, columns: int, scale: float) -> np.ndarray:
        return random.normal(0.0, scale, (rows, columns)).astype(np.float32)

    embedding, head = matrix(vocabulary, HIDDEN, 0.6), matrix(vocabulary, HIDDEN, 0.1)
    embedding[:, 0] = 4.0
    # The constant dimension is about 4 before and after the final norm.
    head[:, 0] = [math.log(shares.get(token, 1e-9)) / 4.0 for token in range(vocabulary)]
    weights = {"model.embed_tokens.weight": embedding, "lm_head.weight": head}
    for layer in range(LAYERS):
        for name, (rows, columns) in SHAPES.items():
            weight = matrix(rows, columns, columns**-0.5)
            if rows == HIDDEN and name.endswith(("o_proj", "down_proj")):
                weight[0] = 0.0
            weights[f"model.layers.{layer}.{name}.weight"] = weight
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"model.layers.{layer}.{norm}.weight"] = np.ones(HIDDEN, np.float32)
    weights["model.norm.weight"] = np.ones(HIDDEN, np.float32)
    return {name: mx.array(weight) for name, weight in weights.items()}
