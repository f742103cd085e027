"""Checkpoints with random weights and the shipped models' tokenizers."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.checkpoints.save import save_model
from tests.modeling.tiny import tiny_model

MODELS = Path(__file__).parents[2] / "models"
TINY_LLAMA3, TINY_GEMMA2 = MODELS / "tiny-llama3", MODELS / "tiny-gemma2"
VOCABULARY = 2048

SCALED_ROPE: dict[str, Any] = {
    "rope_theta": 10000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}
"""Llama 3.1's RoPE scaling, for a context so short that all its frequency bands occur."""
LLAMA_SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True, "num_key_value_heads": 4},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "linear RoPE": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "llama3 RoPE": SCALED_ROPE,
}
"""Changes of a Llama's config that change its GGUF file."""


def random_checkpoint(folder: Path, family: str, tokenizer: Path = TINY_LLAMA3, **changes: Any) -> nn.Module:
    """Write a model of three layers with that tokenizer; returns the model."""
    model = tiny_model(family, **{"vocab_size": VOCABULARY, **changes})
    save_model(folder, model, tokenizer_from=tokenizer)
    return model


def without_template(folder: Path) -> None:
    """Remove the chat template from a checkpoint."""
    (folder / "chat_template.jinja").unlink()
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def quantized_checkpoint(folder: Path) -> nn.Module:
    """Write a Llama with 4-bit matrices; returns the model."""
    model = tiny_model("llama", vocab_size=VOCABULARY, intermediate_size=64)
    nn.quantize(model, group_size=32, bits=4, class_predicate=lambda _, layer: hasattr(layer, "to_quantized"))
    mx.eval(model.parameters())
    save_model(folder, model, tokenizer_from=TINY_LLAMA3)
    return model


PREPEND: dict[str, Any] = {
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    },
    "pre_tokenizer": None,
}
"""A space before every text: Llama 2, Mistral 0.1."""
FIRST: dict[str, Any] = {
    "normalizer": None,
    "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
}
"""A space before the first text: Mistral 0.3."""


def spaced_checkpoint(folder: Path, spaces: dict[str, Any]) -> nn.Module:
    """Write a Mistral with Gemma's tokenizer but other spaces, without tokenizer.model."""
    model = random_checkpoint(folder, "mistral", TINY_GEMMA2, sliding_window=64)
    (folder / "tokenizer.model").unlink()
    whole = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")) | spaces
    (folder / "tokenizer.json").write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
    return model
