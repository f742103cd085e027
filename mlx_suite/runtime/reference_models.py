"""Shapes of the models people ask about first: `doctor` says what fits before any download."""

from __future__ import annotations

from typing import Any


def _llama(hidden: int, layers: int, heads: int, intermediate: int, context: int, tied: bool) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": hidden // heads,
        "intermediate_size": intermediate,
        "vocab_size": 128256,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
    }


def _gemma2(hidden: int, layers: int, heads: int, kv_heads: int, head_dim: int, intermediate: int) -> dict[str, Any]:
    return {
        "model_type": "gemma2",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": intermediate,
        "vocab_size": 256000,
        "sliding_window": 4096,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    }


REFERENCE_MODELS: dict[str, dict[str, Any]] = {
    "Llama 3.2 1B": _llama(2048, 16, 32, 8192, 131072, tied=True),
    "Llama 3.2 3B": _llama(3072, 28, 24, 8192, 131072, tied=True),
    "Llama 3 8B": _llama(4096, 32, 32, 14336, 8192, tied=False),
    "Gemma 2 2B": _gemma2(2304, 26, 8, 4, 256, 9216),
    "Gemma 2 9B": _gemma2(3584, 42, 16, 8, 256, 14336),
    "Gemma 2 27B": _gemma2(4608, 46, 32, 16, 128, 36864),
}
"""Configurations by name, with Hugging Face's keys."""
