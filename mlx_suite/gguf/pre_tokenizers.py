"""Pre-tokenizers of byte-level BPE by the name that a GGUF file gives them (`tokenizer.ggml.pre`).

A file holds only the name; how text is split into words before the merges is code in llama.cpp. Here each name has the
expressions of the tokenizer.json that it was derived from. With another pre-tokenizer most texts would still give the
right ids, and some silently others, so unknown names are refused.

Source: names, BOS and whole words from llama.cpp's `src/llama-vocab.cpp`; expressions from the tokenizer.json files of
Llama 3, Qwen 2 to 3.5, Mistral Nemo, SmolLM and DeepSeek.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlx_suite.runtime.errors import UserError

GPT2_BYTES = "ByteLevel"
"""Step that splits by GPT-2's own expression, part of the tokenizers library's ByteLevel."""
DIGITS = "Digits"
"""Step that makes each digit a word."""

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LLAMA3 = rf"{_CONTRACTIONS}|{_BEFORE}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN2 = rf"{_CONTRACTIONS}|{_BEFORE}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN35 = rf"{_CONTRACTIONS}|{_BEFORE}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
_TEKKEN = rf"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
_ASCII_SIGNS = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""
_DEEPSEEK_V3 = (
    rf"{_ASCII_SIGNS}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
)
_HAN_AND_HANGUL = "[一-龥ࠀ-一가-\ud7ff]+"
_HAN_AND_KANA = "[一-龥\u3040-ゟ゠-ヿ]+"


@dataclass(frozen=True, kw_only=True)
class PreTokenizer:
    """How a byte-level tokenizer prepares text for its merges."""

    steps: tuple[str, ...]
    """Expressions that split text one after another, GPT2_BYTES or DIGITS."""
    whole_words: bool = False
    """Whether a word that is a token is never split, whatever the merges say (`ignore_merges`)."""
    nfc: bool = False
    """Whether text is first normalized to NFC."""
    adds_bos: bool = False
    """Whether texts begin with BOS if the file does not say."""


_GPT2_WORDS = PreTokenizer(steps=(GPT2_BYTES,))
_GPT2_DIGITS = PreTokenizer(steps=(DIGITS, GPT2_BYTES))
_LLAMA3_WORDS = PreTokenizer(steps=(_LLAMA3,), whole_words=True, adds_bos=True)
_QWEN2_WORDS = PreTokenizer(steps=(_QWEN2,), nfc=True)

PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {
    "llama-bpe": _LLAMA3_WORDS,
    "llama3": _LLAMA3_WORDS,
    "llama-v3": _LLAMA3_WORDS,
    "smaug-bpe": PreTokenizer(steps=(_LLAMA3,)),
    "qwen2": _QWEN2_WORDS,
    "deepseek-r1-qwen": _QWEN2_WORDS,
    "qwen35": PreTokenizer(steps=(_QWEN35,), nfc=True),
    "tekken": PreTokenizer(steps=(_TEKKEN,), whole_words=True, adds_bos=True),
    "gpt-2": _GPT2_WORDS,
    "smollm": _GPT2_DIGITS,
    "starcoder": _GPT2_DIGITS,
    "refact": _GPT2_DIGITS,
    "deepseek-coder": PreTokenizer(steps=(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN_AND_HANGUL, DIGITS)),
    "deepseek-v3": PreTokenizer(steps=(r"\p{N}{1,3}", _HAN_AND_KANA, _DEEPSEEK_V3)),
}
"""Pre-tokenizers by name. Names with the same value are the same in llama.cpp."""


def find_pre_tokenizer(name: str) -> PreTokenizer:
    """The pre-tokenizer of that name. Raises UserError for an unknown name."""
    if name not in PRE_TOKENIZERS:
        raise UserError(
            f"the file's pre-tokenizer {name!r} is not supported; with another one the model would read other tokens",
            where="tokenizer.ggml.pre",
            fix="use the model's Hugging Face folder, which holds its tokenizer.json",
        )
    return PRE_TOKENIZERS[name]


def pre_tokenizer_json(pre: PreTokenizer) -> dict[str, Any]:
    """The `pre_tokenizer` part of a tokenizer.json."""
    steps = [_step_json(step) for step in pre.steps]
    if GPT2_BYTES not in pre.steps:
        steps.append(_bytes_json(splits=False))
    return steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}


def _step_json(step: str) -> dict[str, Any]:
    if step == GPT2_BYTES:
        return _bytes_json(splits=True)
    if step == DIGITS:
        return {"type": "Digits", "individual_digits": True}
    return {"type": "Split", "pattern": {"Regex": step}, "behavior": "Isolated", "invert": False}


def _bytes_json(*, splits: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": splits}
