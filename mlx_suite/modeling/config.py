"""The shape of a model of one of our families, read from `config.json` and validated.

The RoPE settings are read by `rope_settings`; Gemma 3 nests them by kind of layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlx_suite.modeling.rope_settings import RopeSettings, is_positive, read_rope
from mlx_suite.modeling.text_part import MULTIMODAL, text_config
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.json_file import POSITIVE

LLAMA_TYPES = ("llama", "mistral")
GEMMA2_TYPES = ("gemma2",)
GEMMA3_TYPES = ("gemma3_text",)
GEMMA_TYPES = GEMMA2_TYPES + GEMMA3_TYPES
QWEN3_TYPES = ("qwen3",)
QK_NORM_TYPES = GEMMA3_TYPES + QWEN3_TYPES
"""Families whose queries and keys are normalised per head."""
OUR_TYPES = LLAMA_TYPES + GEMMA_TYPES + QWEN3_TYPES + tuple(MULTIMODAL)
"""Model types that are ours; of a multimodal one, the text part."""

FULL, SLIDING = LAYER_KINDS = ("full_attention", "sliding_attention")
"""Global and local layers, as `layer_types` names them."""

REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "rms_norm_eps",
)
WHOLE = (
    *REQUIRED[:-1],
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "sliding_window",
    "sliding_window_pattern",
)
"""Keys that must be positive integers if present."""

FAMILY_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4096},
    "gemma2": {
        "num_key_value_heads": 4,
        "head_dim": 256,
        "sliding_window": 4096,
        "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "gemma3_text": {
        "vocab_size": 262208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
        "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
    },
    "qwen3": {
        "num_key_value_heads": 32,
        "head_dim": 128,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32768,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
    },
}
"""transformers' defaults for missing keys; an explicit null is not missing."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a model of one of our families, under the names of Hugging Face's `config.json`."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    max_position_embeddings: int
    tie_word_embeddings: bool
    rope: RopeSettings
    """Of all layers; of the global ones if `local_rope` is set."""
    windows: tuple[int | None, ...]
    """Number of keys that a query sees in each layer, its own included; None for all keys."""
    local_rope: RopeSettings | None = None
    """Gemma 3: of the layers with a window."""
    attention_bias: bool = False
    mlp_bias: bool = False
    query_pre_attn_scalar: float | None = None
    """Gemma: queries are scaled by its inverse square root; None means `head_dim`."""
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    source: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The original `config.json` (of a multimodal model, its text part), so that a saved model keeps every key."""

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], where: str = "config.json") -> "ModelConfig":
        """Read a parsed `config.json`. Raises UserError that lists every problem."""
        config = text_config(config)
        model_type = config.get("model_type")
        usual = FAMILY_DEFAULTS.get(model_type, {}) if isinstance(model_type, str) else {}
        given, config = config, {**usual, **config}
        problems = [f"{key} is missing" for key in REQUIRED if config.get(key) is None]
        problems += [
            f"{key} is {config[key]!r}, not a positive whole number"
            for key in WHOLE
            if config.get(key) is not None and not _whole(config[key])
        ]
        problems += [
            f"{key} is {config[key]!r}, not a positive number"
            for key in (
                "rms_norm_eps",
                "rope_theta",
                "rope_local_base_freq",
                "query_pre_attn_scalar",
                "attn_logit_softcapping",
                "final_logit_softcapping",
            )
            if config.get(key) is not None and not is_positive(config[key])
        ]
        if model_type not in OUR_TYPES:
            problems.append(f"model_type is {model_type!r}, not one of {', '.join(OUR_TYPES)}")
        if problems:
            raise _bad_config(problems, where)

        model_type = str(model_type)
        heads = config["num_attention_heads"]
        head_dim = config.get("head_dim") or config["hidden_size"] // heads
        key_value_heads = config.get("num_key_value_heads") or heads
        layers = config["num_hidden_layers"]
        if not config.get("head_dim") and config["hidden_size"] % heads:
            problems.append(f"hidden_size {config['hidden_size']} is not a multiple of num_attention_heads {heads}")
        if heads % key_value_heads:
            problems.append(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {key_value_heads}")
        if head_dim % 2:
            problems.append(f"head_dim {head_dim} is odd; rotary embedding rotates pairs")
        gemma = model_type in GEMMA_TYPES
        first = config.get("max_window_layers", 0)
        if model_type in QWEN3_TYPES and not (isinstance(first, int) and first >= 0):
            problems.append(f"max_window_layers is {first!r}, not a whole number")
        activation = config.get("hidden_activation") or config.get("hidden_act")
        expected = ("gelu_pytorch_tanh", "gelu") if gemma else ("silu",)
        if activation is not None and activation not in expected:
            problems.append(f"the activation is {activation!r}; {model_type} uses {expected[0]}")
        if config.get("use_bidirectional_attention"):
            problems.append("use_bidirectional_attention is set; only causal attention is supported")
        rope, local_rope, rope_problems = _read_ropes(config, head_dim)
        windows, window_problems = _read_windows(config, layers)
        problems += rope_problems + window_problems
        if problems:
            raise _bad_config(problems, where)

        return cls(
            model_type=model_type,
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=key_value_heads,
            head_dim=head_dim,
            rms_norm_eps=config["rms_norm_eps"],
            max_position_embeddings=config.get("max_position_embeddings") or 8192,
            tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
            rope=rope,
            windows=windows,
            local_rope=local_rope,
            attention_bias=bool(config.get("attention_bias", False)),
            mlp_bias=bool(config.get("mlp_bias", False)),
            query_pre_attn_scalar=config.get("query_pre_attn_scalar") if gemma else None,
            attn_logit_softcapping=config.get("attn_logit_softcapping") if gemma else None,
            final_logit_softcapping=config.get("final_logit_softcapping") if gemma else None,
            source=dict(given),
        )

    @property
    def scale(self) -> float:
        """Factor of the attention scores."""
        return float(self.query_pre_attn_scalar or self.head_dim) ** -0.5


def _whole(value: Any) -> bool:
    return POSITIVE.holds(value)


def _bad_config(problems: list[str], where: str) -> UserError:
    return UserError(
        what="the model's config.json is invalid: " + "; ".join(problems),
        where=where,
        fix="correct these keys, or use another checkpoint",
    )


def _read_ropes(config: Mapping[str, Any], head_dim: int) -> tuple[RopeSettings, RopeSettings | None, list[str]]:
    """RoPE settings of all or of the global layers, those of Gemma 3's local layers, and problems.

    Gemma 3's `rope_parameters` are nested by kind of layer; its `rope_scaling` and `rope_theta` are the global layers'.
    """
    if config["model_type"] not in GEMMA3_TYPES:
        rope, problems = read_rope(config, head_dim)
        return rope, None, problems
    nested = config.get("rope_parameters") or {}
    if not isinstance(nested, Mapping) or not all(isinstance(nested.get(kind) or {}, Mapping) for kind in LAYER_KINDS):
        return RopeSettings(), None, [f"rope_parameters is {nested!r}, not settings by kind of layer"]
    if nested.keys() - set(LAYER_KINDS):
        return RopeSettings(), None, [f"rope_parameters has keys other than {' and '.join(LAYER_KINDS)}"]
    everywhere, local = (dict(nested.get(kind) or {}) for kind in LAYER_KINDS)
    scaling = config.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping):
        return RopeSettings(), None, [f"rope_scaling is {scaling!r}, not a mapping of settings"]
    shared = {**config, "rope_scaling": None}
    rope, problems = read_rope({**shared, "rope_parameters": {**everywhere, **scaling}}, head_dim)
    shared["rope_theta"] = config["rope_local_base_freq"]
    local_rope, more = read_rope({**shared, "rope_parameters": local}, head_dim)
    return rope, local_rope, problems + more


def usual_layers(config: Mapping[str, Any]) -> list[str]:
    """Kind of each layer in a config that has a sliding window but no `layer_types`.

    Mistral: all local. Gemma 2: local and global in turn. Gemma 3: every sixth (`sliding_window_pattern`) global. Qwen
    3: local from layer `max_window_layers` on.
    """
    model_type, layers = config["model_type"], config["num_hidden_layers"]
    usual = {**FAMILY_DEFAULTS[model_type], **config}
    period, first = layers + 1, 0
    if model_type in GEMMA2_TYPES:
        period = 2
    elif model_type in GEMMA3_TYPES:
        period = usual["sliding_window_pattern"]
    elif model_type in QWEN3_TYPES:
        first = usual["max_window_layers"]
    return [FULL if i < first or (i + 1) % period == 0 else SLIDING for i in range(layers)]


def _read_windows(config: Mapping[str, Any], layers: int) -> tuple[tuple[int | None, ...], list[str]]:
    """Sliding windows per layer, and problems.

    Llama has none; the others' layers are the `usual_layers` unless `layer_types` overrides them, for Mistral too
    (transformers then reads it as Ministral).
    """
    window = config.get("sliding_window")
    model_type = config["model_type"]
    if model_type in QWEN3_TYPES and not config["use_sliding_window"]:
        window = None
    if model_type == "llama" or (window is None and model_type not in GEMMA3_TYPES):
        return (None,) * layers, []
    kinds = config.get("layer_types") or usual_layers(config)
    if not isinstance(kinds, list) or not set(map(str, kinds)) <= set(LAYER_KINDS):
        return (None,) * layers, [f"layer_types is {kinds!r}, not a list of full_attention and sliding_attention"]
    if len(kinds) != layers:
        return (None,) * layers, [f"layer_types names {len(kinds)} layers, num_hidden_layers is {layers}"]
    if window is None and SLIDING in kinds:
        return (None,) * layers, ["sliding_window is null, but the model has local layers"]
    return tuple(window if kind == SLIDING else None for kind in kinds), []
