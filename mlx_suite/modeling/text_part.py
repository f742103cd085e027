"""The text part of a Gemma 3 that also reads images: its config and its weights, in a text model's layout."""

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

MULTIMODAL: Mapping[str, tuple[str, str]] = {"gemma3": ("gemma3_text", "Gemma3ForCausalLM")}
"""Model type with a nested `text_config` → model type and class of its language model alone."""

_OF_IMAGES = (
    "text_config",
    "vision_config",
    "boi_token_index",
    "eoi_token_index",
    "image_token_index",
    "mm_tokens_per_image",
)
_OTHER_PARTS = (
    "vision_tower.",
    "vision_model.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
)
_TEXT_PARTS = {
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "model.language_model.": "model.",
}
"""Prefixes of transformers 4 and mlx-lm, and of transformers 5."""


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the language model alone; a text model's config is returned unchanged.

    Keys outside `text_config` (end-of-sequence ids, quantization) are kept and take precedence.
    """
    alone = MULTIMODAL.get(str(config.get("model_type")))
    if alone is None:
        return dict(config)
    nested = config.get("text_config")
    model_type, architecture = alone
    outside = {key: value for key, value in config.items() if key not in _OF_IMAGES}
    text = dict(nested) if isinstance(nested, Mapping) else {}
    result = {**text, **outside, "model_type": model_type}
    named = config.get("architectures")
    if isinstance(named, list) and str(next(iter(named), "")).endswith("ConditionalGeneration"):
        result["architectures"] = [architecture]
    return result


def text_weights(weights: Mapping[str, T]) -> dict[str, T]:
    """Weights by the names of a text model; those of the vision encoder and its projector are dropped."""
    found = {}
    for name, value in weights.items():
        if name.startswith(_OTHER_PARTS):
            continue
        prefix = next((prefix for prefix in _TEXT_PARTS if name.startswith(prefix)), "")
        found[_TEXT_PARTS.get(prefix, "") + name.removeprefix(prefix)] = value
    return found
