"""The tokens of a GGUF file: texts, types, scores and merges, checked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.text.backend import TURN_MARKERS
from mlx_suite.text.token_bytes import BYTE_PIECE, SPACE_MARK

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Types of tokens (`tokenizer.ggml.token_type`), SentencePiece's. CONTROL is never found in a user's text; USER_DEFINED
is found there before the merges."""
SENTENCEPIECE, BYTE_LEVEL = "llama", "gpt2"
"""Kinds of vocabulary (`tokenizer.ggml.model`)."""

DEFAULT_IDS = {"bos_token": 1, "eos_token": 2, "unk_token": 0}
"""Special ids of a SentencePiece-like vocabulary whose file names none: Llama 2's, as in llama.cpp."""
ROLE_KEYS = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
}

FOUND_IN_TEXT = frozenset(
    {
        "<mask>",
        "<2mass>",
        "[@BOS@]",
        "<|fim_prefix|>",
        "<|fim_middle|>",
        "<|fim_suffix|>",
        "<|fim_pad|>",
        "<|repo_name|>",
        "<|file_sep|>",
    }
)
"""Tokens of Gemma and Qwen that their own tokenizers find in any text. llama.cpp's converter marks them as control
tokens for their looks, as it does Gemma's `<unused0>` and the others."""
NEVER_IN_TEXT = TURN_MARKERS | {"<start_of_image>", "<end_of_image>"}
"""Control tokens that some files mark as user-defined, such as the turn markers of Gemma 2's first ones."""


@dataclass(frozen=True, kw_only=True)
class TokenList:
    """The tokens of a file, one per id."""

    kind: Literal["llama", "gpt2"]
    texts: Sequence[str] = field(repr=False)
    types: Sequence[int] = field(repr=False)
    scores: Sequence[float] = field(repr=False)
    """SENTENCEPIECE only: which pairs are merged first. Empty if the file's scores are all the same."""
    merges: Sequence[str] = field(repr=False)
    """BYTE_LEVEL only: pairs joined by a space, best first."""
    roles: Mapping[str, int]
    """Special ids by role, such as `bos_token`."""

    @cached_property
    def added(self) -> dict[int, bool]:
        """Ids of the tokens that are cut out of text before the merges, and whether they are special."""
        return {
            index: _is_special(self.texts[index], kind)
            for index, kind in enumerate(self.types)
            if kind in (CONTROL, USER_DEFINED, UNKNOWN)
        }


def read_tokens(metadata: Mapping[str, Any]) -> TokenList:
    """The tokens in a file's metadata.

    Raises UserError for a kind of vocabulary that is not supported, or lists that are missing or inconsistent.
    """
    kind = metadata.get("tokenizer.ggml.model")
    if kind not in (SENTENCEPIECE, BYTE_LEVEL):
        raise UserError(
            "the file has no tokenizer" if kind is None else f"the file's tokenizer is of kind {kind!r}",
            where="tokenizer.ggml.model",
            fix="use a file with a SentencePiece-like ('llama') or byte-level BPE ('gpt2') tokenizer, "
            "or the model's Hugging Face folder",
        )
    texts = [text or f"[EMPTY_{index}]" for index, text in enumerate(metadata.get("tokenizer.ggml.tokens", ()))]
    roles = _roles(metadata, kind, len(texts))
    types = [int(each) for each in metadata.get("tokenizer.ggml.token_type", ())] or _guessed_types(texts, kind, roles)
    scores = [float(each) for each in metadata.get("tokenizer.ggml.scores", ())] if kind == SENTENCEPIECE else []
    merges = list(metadata.get("tokenizer.ggml.merges", ())) if kind == BYTE_LEVEL else []
    _check(texts, types, scores, merges, kind)
    if kind == SENTENCEPIECE:
        texts = [_spelled(text, each) for text, each in zip(texts, types, strict=True)]
        if len({score for score, each in zip(scores, types, strict=True) if each == NORMAL}) < 2:
            scores = []
    while types and types[-1] == UNUSED and texts[-1] == f"[PAD{len(texts) - 1}]":
        # Rows of the embedding without a token.
        texts.pop(), types.pop()
    return TokenList(kind=kind, texts=texts, types=types, scores=scores, merges=merges, roles=roles)


def _check(
    texts: Sequence[str], types: Sequence[int], scores: Sequence[float], merges: Sequence[str], kind: str
) -> None:
    problems = []
    if not texts:
        problems.append("tokenizer.ggml.tokens is missing")
    if len(types) != len(texts):
        problems.append(f"tokenizer.ggml.token_type has {len(types):,} entries for {len(texts):,} tokens")
    if kind == SENTENCEPIECE and len(scores) != len(texts):
        problems.append(f"tokenizer.ggml.scores has {len(scores):,} entries for {len(texts):,} tokens")
    if kind == BYTE_LEVEL and not merges:
        problems.append("tokenizer.ggml.merges is missing")
    repeated = [text for text, number in Counter(texts).items() if number > 1]
    problems += [f"several tokens are spelled {text!r}" for text in shortened(repeated)]
    if problems:
        raise UserError(
            "the tokenizer in the file is incomplete or damaged",
            where="tokenizer.ggml",
            fix="download the file again, or use another file of the same model",
            details=problems,
        )


def _roles(metadata: Mapping[str, Any], kind: str, size: int) -> dict[str, int]:
    found = {}
    for role, key in ROLE_KEYS.items():
        index = metadata.get(key, DEFAULT_IDS.get(role) if kind == SENTENCEPIECE else None)
        if index is not None and 0 <= int(index) < size:
            found[role] = int(index)
    return found


def _guessed_types(texts: Sequence[str], kind: str, roles: Mapping[str, int]) -> list[int]:
    """Types for a file that has none: bytes by their spelling, special tokens by their role."""
    types = [BYTE if kind == SENTENCEPIECE and BYTE_PIECE.fullmatch(text) else NORMAL for text in texts]
    for role, index in roles.items():
        types[index] = UNKNOWN if role == "unk_token" else CONTROL
    return types


def _spelled(text: str, kind: int) -> str:
    """A token as its own tokenizer spells it: files spell the spaces of user-defined tokens as spaces."""
    return SPACE_MARK * len(text) if kind == USER_DEFINED and not text.strip(" ") else text


def _is_special(text: str, kind: int) -> bool:
    if kind == CONTROL:
        return text not in FOUND_IN_TEXT and not (text.startswith("<unused") and text.endswith(">"))
    return kind == UNKNOWN or text in NEVER_IN_TEXT
