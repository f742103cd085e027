"""RoPE settings, read from `config.json` and validated: θ and the scaling for contexts longer than the trained one.

Both forms are read: `rope_theta` with `rope_scaling`, and `rope_parameters` (transformers 5).
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RopeSettings:
    """Rotary embedding: θ, the kind of scaling and its settings."""

    theta: float = 10000.0
    kind: str = "default"
    """`default`; `linear`: positions divided by `factor`; `llama3`: long wavelengths divided by `factor`; `yarn`: the
    same with a blend by pair; `dynamic`: θ grows with the length; `longrope`: one list of divisors for short sequences
    and one for long ones."""
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192
    """Context in training, before it was extended."""
    beta_fast: float = 32.0
    """YaRN: pairs that turn more often within the original context are unscaled."""
    beta_slow: float = 1.0
    """YaRN: pairs that turn less often are divided by `factor`."""
    truncate: bool = True
    """YaRN: whether the two bounds are rounded outwards to whole pairs."""
    mscale: float | None = None
    mscale_all_dim: float | None = None
    attention_factor: float | None = None
    """YaRN, LongRoPE: factor of rotated queries and keys; None: the value of the paper (`amplitude`)."""
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()

    @property
    def amplitude(self) -> float:
        """Factor of rotated queries and keys, as transformers computes it."""
        if self.kind not in ("yarn", "longrope"):
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        if self.kind == "longrope":
            if self.factor <= 1:
                return 1.0
            return math.sqrt(1 + math.log(self.factor) / math.log(self.original_max_position_embeddings))
        if self.mscale and self.mscale_all_dim:
            return _yarn_scale(self.factor, self.mscale) / _yarn_scale(self.factor, self.mscale_all_dim)
        return _yarn_scale(self.factor, 1.0)


ORIGINAL = "original_max_position_embeddings"

ROPE_NEEDS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", ORIGINAL),
    "yarn": ("factor", ORIGINAL),
    "dynamic": ("factor",),
    "longrope": ("factor", ORIGINAL, "short_factor", "long_factor"),
}
"""The known kinds of RoPE and the settings each must have."""

_YARN = ("beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor")
ROPE_OPTIONS: Mapping[str, tuple[str, ...]] = {"yarn": _YARN, "longrope": ("attention_factor",)}
"""Numbers that a kind of RoPE may have."""

_DIVISORS = ("short_factor", "long_factor")


def rope_parameters(rope: RopeSettings, *, theta: bool = True) -> dict[str, Any]:
    """The settings as transformers 5 names them, with or without θ."""
    settings = {"rope_type": rope.kind, **({"rope_theta": rope.theta} if theta else {})}
    for name in (*ROPE_NEEDS[rope.kind], *ROPE_OPTIONS.get(rope.kind, ())):
        value = getattr(rope, name)
        if value is not None:
            settings[name] = list(value) if name in _DIVISORS else value
    if not rope.truncate:
        settings["truncate"] = False
    return settings


def read_rope(config: Mapping[str, Any], head_dim: int) -> tuple[RopeSettings, list[str]]:
    """RoPE settings and problems, from `rope_theta` and `rope_scaling` or from `rope_parameters` (transformers 5).

    If a file has both, `rope_scaling` takes precedence, as in transformers 5.
    """
    name = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    given = config.get(name) or {}
    if not isinstance(given, Mapping):
        return RopeSettings(), [f"{name} is {given!r}, not a mapping of settings"]
    nested = sorted(key for key, value in given.items() if isinstance(value, Mapping))
    if nested:
        return RopeSettings(), [f"{name} differs between layers ({', '.join(nested)}), which is not supported"]
    # Files from before Llama 3.1 call the kind `type`.
    kind = given.get("rope_type") or given.get("type") or "default"
    theta = given.get("rope_theta") or config.get("rope_theta") or 10000.0
    part = given.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1
    problems = []
    if not is_positive(theta):
        problems.append(f"rope_theta is {theta!r}, not a positive number")
    if part != 1:
        problems.append(f"partial_rotary_factor is {part!r}; only full rotation of a head is supported")
    if not isinstance(kind, str) or kind not in ROPE_NEEDS:
        problems.append(f"rope scaling {kind!r} is not supported; supported: {', '.join(ROPE_NEEDS)}")
        return RopeSettings(), problems
    settings = _with_defaults(kind, given, config)
    numbers = [needed for needed in ROPE_NEEDS[kind] if needed not in _DIVISORS]
    wrong = [needed for needed in numbers if not is_positive(settings.get(needed))]
    if wrong:
        problems.append(f"{kind} rope scaling lacks a positive {', '.join(wrong)}")
    options = {option: given[option] for option in ROPE_OPTIONS.get(kind, ()) if given.get(option) is not None}
    problems += [
        f"{key} is {value!r}, not a positive number" for key, value in options.items() if not is_positive(value)
    ]
    if kind == "yarn" and not isinstance(given.get("truncate", True), bool):
        problems.append(f"truncate is {given['truncate']!r}, not true or false")
    if kind == "longrope":
        problems += [problem for key in _DIVISORS if (problem := _divisors_problem(key, given.get(key), head_dim))]
    if problems:
        return RopeSettings(), problems
    values: dict[str, Any] = {needed: settings[needed] for needed in numbers} | options
    values |= {key: tuple(map(float, given[key])) for key in _DIVISORS if kind == "longrope"}
    if kind == "yarn":
        values["truncate"] = given.get("truncate", True)
    if kind == "dynamic":
        values[ORIGINAL] = config.get("max_position_embeddings") or RopeSettings().original_max_position_embeddings
    return RopeSettings(theta=theta, kind=kind, **values), []


def _with_defaults(kind: str, given: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with transformers' defaults: the original context is the model's own unless stated, in its config
    (as Phi 3 does) rather than in the settings; YaRN's and LongRoPE's factor is the ratio of the two contexts.
    """
    settings = dict(given)
    context = config.get("max_position_embeddings")
    settings[ORIGINAL] = config.get(ORIGINAL) or given.get(ORIGINAL) or context
    both = is_positive(context) and is_positive(settings[ORIGINAL])
    if kind in ("yarn", "longrope") and settings.get("factor") is None and both:
        settings["factor"] = context / settings[ORIGINAL]
    return settings


def _divisors_problem(key: str, value: object, head_dim: int) -> str | None:
    if not isinstance(value, list) or not all(map(is_positive, value)):
        return f"longrope scaling lacks a list of positive numbers {key}"
    if len(value) != head_dim // 2:
        return f"{key} has {len(value)} numbers, not one for each of {head_dim // 2} pairs of a head"
    return None


def is_positive(value: Any) -> bool:
    """Whether a value of a JSON file is a positive number, and no larger than a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


def _yarn_scale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0
