"""Read and write `config.json`, in a form that transformers and mlx-lm both load."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_suite.checkpoints.other_formats import ORIGINAL_CONFIG, original_format
from mlx_suite.checkpoints.stored_weights import as_stored
from mlx_suite.modeling.config import (
    FULL,
    GEMMA3_TYPES,
    GEMMA_TYPES,
    QWEN3_TYPES,
    SLIDING,
    ModelConfig,
    usual_layers,
)
from mlx_suite.modeling.rope_settings import rope_parameters
from mlx_suite.modeling.text_part import text_config
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import json_if_any
from mlx_suite.runtime.json_file import FLAG, OBJECT, TEXT, TEXTS, TOKEN_IDS, Kind, read_object

NAME = "config.json"

ARCHITECTURES: Mapping[str, str] = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""The transformers class of each model type we implement."""

CONFIG_KEYS: Mapping[str, Kind] = {
    "model_type": TEXT,
    "architectures": TEXTS,
    "dtype": TEXT,
    "torch_dtype": TEXT,
    "text_config": OBJECT,
    "quantization": OBJECT,
    "quantization_config": OBJECT,
    "tie_word_embeddings": FLAG,
    "eos_token_id": TOKEN_IDS,
}
"""Keys that are read of every architecture, and what they must be."""

SHARED_KEYS = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "max_position_embeddings",
    "tie_word_embeddings",
)
"""Keys of `config.json` that have the same name in `ModelConfig`."""


def read_config(folder: Path) -> dict[str, Any]:
    """Parse the folder's `config.json`, which must name a `model_type`; of a multimodal model of ours, the text part.

    Where the stored weights contradict it, they decide: see `stored_weights`.

    Raises UserError if the file is missing, unreadable, not a JSON object, has no model type, or values of wrong types.
    """
    path = folder / NAME
    if not path.exists():
        if (folder / ORIGINAL_CONFIG).is_file():
            raise original_format(folder)
        there = "contains no config.json" if folder.is_dir() else "does not exist"
        raise _unusable(f"the folder {there}", folder)
    config = read_object(path, CONFIG_KEYS)
    if config.get("model_type") is None:
        raise _unusable("config.json has no model_type", path)
    return as_stored(text_config(config), folder)


def model_type_of(folder: Path) -> str | None:
    """Return `model_type` of a folder's `config.json`; None if it cannot be read."""
    value = json_if_any(folder / "config.json").get("model_type")
    return value if isinstance(value, str) else None


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write `config` as the folder's `config.json`, keys sorted."""
    text = json.dumps(dict(config), indent=2, sort_keys=True, ensure_ascii=False)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")


def config_to_dict(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model: `config.source` updated with the fields of `config`.

    RoPE is written as `rope_scaling`, which transformers 4 and 5 and mlx-lm read, and also as `rope_parameters` if the
    source has it (mlx-lm 0.32.2 does not read that).
    """
    rope, family = config.rope, config.model_type
    scaling = None if rope.kind == "default" else rope_parameters(rope, theta=False)
    result: dict[str, Any] = {"architectures": [ARCHITECTURES[family]], **config.source}
    result |= {name: getattr(config, name) for name in SHARED_KEYS}
    result |= {"rope_theta": rope.theta, "rope_scaling": scaling}
    if config.local_rope is not None:
        result["rope_local_base_freq"] = config.local_rope.theta
    if "rope_parameters" in config.source or (config.local_rope and config.local_rope.kind != "default"):
        result["rope_parameters"] = rope_parameters(rope)
        if config.local_rope is not None:
            result["rope_parameters"] = {FULL: rope_parameters(rope), SLIDING: rope_parameters(config.local_rope)}
    if family in GEMMA_TYPES:
        result["hidden_activation"] = "gelu_pytorch_tanh"
        result["query_pre_attn_scalar"] = config.query_pre_attn_scalar or config.head_dim
        result["attn_logit_softcapping"] = config.attn_logit_softcapping
        result["final_logit_softcapping"] = config.final_logit_softcapping
    else:
        result["hidden_act"] = "silu"
    if family != "mistral":
        result["attention_bias"] = config.attention_bias
    if family == "llama":
        result["mlp_bias"] = config.mlp_bias
    else:
        result |= _windows(config)
    return result


def _windows(config: ModelConfig) -> dict[str, Any]:
    """`sliding_window`, and `layer_types` if the windowed layers are not the family's usual ones."""
    window = next((w for w in config.windows if w is not None), None)
    kinds = [FULL if w is None else SLIDING for w in config.windows]
    needed = window is not None or config.model_type in GEMMA3_TYPES
    usual = usual_layers({**config.source, "model_type": config.model_type, "num_hidden_layers": len(kinds)})
    found: dict[str, Any] = {"sliding_window": window}
    if config.model_type in QWEN3_TYPES:
        found["use_sliding_window"] = window is not None
    if config.source.get("layer_types") or (needed and kinds != usual):
        found["layer_types"] = kinds
    return found


def _unusable(what: str, where: Path) -> UserError:
    return UserError(
        what=what,
        where=str(where),
        fix="use a complete Hugging Face checkpoint",
    )
