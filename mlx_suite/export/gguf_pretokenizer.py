"""llama.cpp's name for the way a byte-level tokenizer cuts text before its merges.

llama.cpp holds each known way in its own code and finds it by `tokenizer.ggml.pre`; a wrong name gives other tokens,
silently. So the name is told from the pattern itself, and an unknown pattern is refused.
"""

from collections.abc import Mapping
from typing import Any

from mlx_suite.runtime.errors import UserError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_TEKKEN = rf"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
_GPT2 = "ByteLevel"
_DIGITS = "Digits"

NAMES: Mapping[tuple[tuple[str, ...], bool], str] = {
    ((_LLAMA3,), True): "llama-bpe",
    ((_LLAMA3,), False): "smaug-bpe",
    ((_TEKKEN,), True): "tekken",
    ((_GPT2,), False): "gpt-2",
    ((_DIGITS, _GPT2), False): "smollm",
}
"""(steps, whether a word that is a token is taken as it is) → name. llama-bpe and smaug-bpe differ in the latter."""


def pretokenizer_name(tokenizer: Mapping[str, Any], where: str) -> str:
    """The name for a parsed tokenizer.json of a byte-level BPE.

    Raises UserError where llama.cpp is not known to cut text the same way.
    """
    steps = _steps(tokenizer.get("pre_tokenizer") or {})
    known = NAMES.get((steps, bool(tokenizer["model"].get("ignore_merges"))))
    if tokenizer.get("normalizer"):
        known = None  # none of these rewrites text first
    if known is None:
        raise UserError(
            "llama.cpp has no known counterpart of this tokenizer's way of cutting text",
            where=where,
            fix="convert this model with llama.cpp's own convert_hf_to_gguf.py, which knows more tokenizers",
            details=[f"it cuts by {step}" for step in steps],
        )
    return known


def _steps(part: Mapping[str, Any]) -> tuple[str, ...]:
    """The patterns of a pre-tokenizer in order; what merely spells bytes is none."""
    match part.get("type"):
        case "Sequence":
            return tuple(step for one in part["pretokenizers"] for step in _steps(one))
        case "Split" if part.get("behavior") == "Isolated" and not part.get("invert"):
            pattern = part["pattern"]
            return (pattern.get("Regex") or f"the text {pattern.get('String')!r}",)
        case "ByteLevel" if not part.get("add_prefix_space"):
            return (_GPT2,) if part.get("use_regex", True) else ()
        case "Digits" if part.get("individual_digits"):
            return (_DIGITS,)
        case other:
            return (f"a step of type {other!r}",)
