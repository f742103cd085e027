"""The shape of a Llama, Mistral or Gemma 2 model, read from `config.json` and validated.

Reads both forms of the RoPE settings: `rope_theta` with `rope_scaling`, and `rope_parameters` (transformers 5).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from mlx_suite.runtime.errors import UserError

LLAMA_TYPES = ("llama", "mistral")
GEMMA2_TYPES = ("gemma2",)
OUR_TYPES = LLAMA_TYPES + GEMMA2_TYPES

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
    },
}
"""transformers' defaults for missing keys; an explicit null is not missing."""


@dataclass(frozen=True, kw_only=True)
class RopeSettings:
    """Rotary embedding: θ and, for Llama 3.1 and later, the frequency scaling of its long-context training."""

    theta: float = 10000.0
    kind: str = "default"
    """`default`, `linear` (positions divided by `factor`) or `llama3` (long wavelengths divided by `factor`)."""
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


ROPE_NEEDS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": tuple(f.name for f in fields(RopeSettings) if f.name not in ("theta", "kind")),
}
"""The known kinds of RoPE and the settings each must have."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a Llama, Mistral or Gemma 2 model, under the names of Hugging Face's `config.json`."""

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
    windows: tuple[int | None, ...]
    """Number of keys that a query sees in each layer, its own included; None for all keys."""
    attention_bias: bool = False
    mlp_bias: bool = False
    query_pre_attn_scalar: float | None = None
    """Gemma 2: queries are scaled by its inverse square root; None means `head_dim`."""
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    source: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The original `config.json`, so that a saved model keeps every key."""

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], where: str = "config.json") -> "ModelConfig":
        """Read a parsed `config.json`. Raises UserError that lists every problem."""
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
                "query_pre_attn_scalar",
                "attn_logit_softcapping",
                "final_logit_softcapping",
            )
            if config.get(key) is not None and not _positive(config[key])
        ]
        model_type = config.get("model_type")
        if model_type not in OUR_TYPES:
            problems.append(f"model_type is {model_type!r}, not one of {', '.join(OUR_TYPES)}")
        if problems:
            raise _bad_config(problems, where)

        model_type = str(model_type)
        given, config = config, {**FAMILY_DEFAULTS[model_type], **config}
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
        gemma = model_type in GEMMA2_TYPES
        activation = config.get("hidden_activation") or config.get("hidden_act")
        expected = ("gelu_pytorch_tanh", "gelu") if gemma else ("silu",)
        if activation is not None and activation not in expected:
            problems.append(f"the activation is {activation!r}; {model_type} uses {expected[0]}")
        if config.get("use_bidirectional_attention"):
            problems.append("use_bidirectional_attention is set; only causal attention is supported")
        rope, rope_problems = _read_rope(config)
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
            attention_bias=bool(config.get("attention_bias", False)),
            mlp_bias=bool(config.get("mlp_bias", False)),
            query_pre_attn_scalar=config.get("query_pre_attn_scalar", 256) if gemma else None,
            attn_logit_softcapping=config.get("attn_logit_softcapping", 50.0) if gemma else None,
            final_logit_softcapping=config.get("final_logit_softcapping", 30.0) if gemma else None,
            source=dict(given),
        )

    @property
    def scale(self) -> float:
        """Factor of the attention scores."""
        return float(self.query_pre_attn_scalar or self.head_dim) ** -0.5


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _bad_config(problems: list[str], where: str) -> UserError:
    return UserError(
        what="the model's config.json is invalid: " + "; ".join(problems),
        where=where,
        fix="use a complete Hugging Face checkpoint, or download it again",
    )


def _read_rope(config: Mapping[str, Any]) -> tuple[RopeSettings, list[str]]:
    """RoPE settings and problems, from `rope_theta` and `rope_scaling` or from `rope_parameters` (transformers 5).

    If a file has both, `rope_scaling` takes precedence, as in transformers 5.
    """
    name = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    given = config.get(name) or {}
    if not isinstance(given, Mapping):
        return RopeSettings(), [f"{name} is {given!r}, not a mapping of settings"]
    settings: dict[str, Any] = dict(given)
    nested = sorted(key for key, value in settings.items() if isinstance(value, Mapping))
    if nested:
        return RopeSettings(), [f"{name} differs between layers ({', '.join(nested)}), which is not supported"]
    # Files from before Llama 3.1 call the kind `type`; the original context defaults to the model's own.
    kind = settings.get("rope_type") or settings.get("type") or "default"
    theta = settings.get("rope_theta") or config.get("rope_theta") or 10000.0
    settings.setdefault("original_max_position_embeddings", config.get("max_position_embeddings"))
    part = settings.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1
    problems = []
    if not _positive(theta):
        problems.append(f"rope_theta is {theta!r}, not a positive number")
    if part != 1:
        problems.append(f"partial_rotary_factor is {part!r}; only full rotation of a head is supported")
    if kind not in ROPE_NEEDS:
        return RopeSettings(), [
            *problems,
            f"rope scaling {kind!r} is not supported; supported: {', '.join(ROPE_NEEDS)}",
        ]
    wrong = [n for n in ROPE_NEEDS[kind] if not _positive(settings.get(n))]
    if wrong:
        problems.append(f"{kind} rope scaling lacks a positive {', '.join(wrong)}")
    if problems:
        return RopeSettings(), problems
    return RopeSettings(theta=theta, kind=kind, **{n: settings[n] for n in ROPE_NEEDS[kind]}), []


def usual_layers(model_type: str, layers: int) -> list[str]:
    """Kind of each layer in a config that has a sliding window but no `layer_types`."""
    alternating = model_type in GEMMA2_TYPES
    return ["full_attention" if alternating and i % 2 else "sliding_attention" for i in range(layers)]


def _read_windows(config: Mapping[str, Any], layers: int) -> tuple[tuple[int | None, ...], list[str]]:
    """Sliding windows per layer, and problems.

    Llama has no window, Mistral one in every layer, Gemma 2 one in every other layer starting with the first.
    `layer_types` overrides this, for Mistral too (transformers then reads it as Ministral).
    """
    window = config.get("sliding_window")
    model_type = config["model_type"]
    if model_type == "llama" or window is None:
        return (None,) * layers, []
    kinds = config.get("layer_types") or usual_layers(model_type, layers)
    known = {"full_attention", "sliding_attention"}
    if not isinstance(kinds, list) or not set(map(str, kinds)) <= known:
        return (None,) * layers, [f"layer_types is {kinds!r}, not a list of full_attention and sliding_attention"]
    if len(kinds) != layers:
        return (None,) * layers, [f"layer_types names {len(kinds)} layers, num_hidden_layers is {layers}"]
    return tuple(window if kind == "sliding_attention" else None for kind in kinds), []
