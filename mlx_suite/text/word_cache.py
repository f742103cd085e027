"""Encoding many texts with the `tokenizers` library, each distinct word only once.

A text is cut before every single space between two other characters. Where a tokenizer provably never joins the two
sides of such a cut, the tokens of the text are those of its words, which repeat: most are found in a dictionary.
Tokenizers without this proof encode whole texts.

The proof is one of two:

* Byte-level BPE that splits by GPT-2's, Llama 3's or Qwen 2's expression. In none of them can a match hold a space
  after a character that is not whitespace, nor does one look back.
* BPE over a whole text, with spaces replaced by `▁`, in whose vocabulary no token has a `▁` after another character:
  no merge can cross the cut, so the merges of the two sides do not affect each other.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from mlx_suite.text.backend import TokenIds

LIMIT = 1 << 21
"""Characters of the words that are remembered; then it begins again. They take about 60 MB."""

WORD = re.compile(r"\s*\S+(?:(?:(?<=▁)|(?! \S))\s+\S+)*(?:\s+\Z)?|\s+\Z")
"""A word with the space before it, and with all it is not cut from: whitespace of another kind, and what follows. A
`▁` of the text itself counts as a space before a space, because some tokenizers take it for one."""

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = (GPT2, _CONTRACTIONS + r"\p{N}{1,3}" + _REST, _CONTRACTIONS + r"\p{N}" + _REST)
"""Split expressions of GPT-2, Llama 3 and Qwen 2."""


class WordCache:
    """Words and their ids.

    Args:
        start: The tokenizer for a text that begins a sequence.
        inside: The tokenizer for text after other text.
        prepends: Whether it puts a space in front of every text; then words are encoded without theirs.
    """

    def __init__(self, start: Tokenizer, inside: Tokenizer, *, prepends: bool = False) -> None:
        self._start, self._inside, self._prepends = start, inside, prepends
        self._known: dict[str, bytes] = {}
        """Ids of the words after a space, as bytes. A key begins with the space only if whitespace adjoins the word
        where it is not cut."""
        self._size = 0

    def encode(self, texts: Sequence[str], *, at_start: bool) -> list[TokenIds]:
        """The ids of each text. Safe to share between threads."""
        known = self._known
        split = [_split(text, known) for text in texts]
        unknown = list({word for words in split for word in words.unknown})
        plain = [word.removeprefix(" ") for word in unknown]
        encoded = encode_whole(plain if self._prepends else [f" {word}" for word in plain], self._inside)
        known.update(zip(unknown, (each.tobytes() for each in encoded), strict=True))
        firsts = list({words.first for words in split})
        first_ids = encode_whole(firsts, self._start if at_start else self._inside)
        starts = dict(zip(firsts, (each.tobytes() for each in first_ids), strict=True))
        ids = [
            np.frombuffer(b"".join((starts[words.first], *map(known.__getitem__, words.rest))), np.uint32)
            for words in split
        ]
        self._size += sum(map(len, unknown))
        if self._size > LIMIT:
            # A new dictionary: another thread may be reading the old one.
            self._known, self._size = {}, 0
        return ids


@dataclass(frozen=True)
class _Words:
    """A text in words."""

    first: str
    rest: list[str]
    """Keys of the other words."""
    unknown: list[str]
    """Those of them that were not known."""


def _split(text: str, known: Mapping[str, bytes]) -> _Words:
    first, *rest = text.split(" ")
    if rest and rest[-1][-1:].isspace() and not rest[-1][0].isspace():
        # Whitespace at the end of a text cannot be cut off the last word.
        rest[-1] = f" {rest[-1]}"
    unknown = _unknown(rest, known)
    # Words that are known are plain, so only the others are looked at.
    last = rest[-1:] if rest and rest[-1][:1] == " " else []
    if rest and not all(map(_is_plain, (first, *(word for word in unknown if [word] != last)))):
        first, *rest = WORD.findall(text)
        unknown = _unknown(rest, known)
    return _Words(first, rest, unknown)


def _unknown(words: Sequence[str], known: Mapping[str, bytes]) -> list[str]:
    found = list(map(known.get, words))
    return [word for word, ids in zip(words, found, strict=True) if ids is None] if None in found else []


def _is_plain(word: str) -> bool:
    """Whether a text may be cut on either side of a word that stood between single spaces."""
    return bool(word) and not (word[0].isspace() or word[-1].isspace() or word[-1] == "▁")


def encode_whole(texts: Sequence[str], library: Tokenizer) -> list[TokenIds]:
    """The ids of each text by the library, on all cores."""
    batch = library.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(each.ids, np.uint32) for each in batch]


def make_word_cache(state: dict[str, Any], start: Tokenizer, inside: Tokenizer) -> WordCache | None:
    """A cache for the tokenizer whose JSON is `state`; None without a proof that its words are independent."""
    model = state["model"]
    if model.get("type") != "BPE" or model.get("dropout") or not all(map(_is_harmless, state["added_tokens"])):
        return None
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return None
    normalizer, splitter = _parts(state["normalizer"]), _parts(state["pre_tokenizer"])
    if _splits_bytes(splitter):
        # NFC never joins a space with the character before it.
        return WordCache(start, inside) if normalizer in ([], [{"type": "NFC"}]) else None
    if model.get("ignore_merges") or any("▁" in token.lstrip("▁") for token in model["vocab"]):
        return None
    replaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prepends = normalizer[:1] == [{"type": "Prepend", "prepend": "▁"}]
    if normalizer[prepends:] == [replaces]:
        # The splitter sees no space any more, so Gemma's has nothing to split.
        gemma = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
        return WordCache(start, inside, prepends=prepends) if splitter in ([], [gemma]) else None
    if not normalizer and len(splitter) == 1 and splitter[0]["type"] == "Metaspace":
        scheme = splitter[0].get("prepend_scheme")
        if splitter[0].get("replacement") == "▁" and scheme in ("first", "never"):
            return WordCache(start, inside)
    return None


def _parts(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a normalizer or pre-tokenizer."""
    if part is None:
        return []
    if part["type"] == "Sequence":
        inner = part.get("normalizers", part.get("pretokenizers"))
        return [step for each in inner or () for step in _parts(each)]
    return [part]


def _splits_bytes(splitter: Sequence[dict[str, Any]]) -> bool:
    """Whether text is split by a known expression, then into bytes."""
    if not splitter or splitter[-1]["type"] != "ByteLevel" or splitter[-1].get("add_prefix_space"):
        return False
    own = splitter[-1].get("use_regex", True)
    if len(splitter) == 1:
        return bool(own)
    [first, *others] = splitter[:-1]
    known = first["type"] == "Split" and first["pattern"].get("Regex") in SPLITS
    return known and not others and not own and first["behavior"] == "Isolated" and not first.get("invert")


def _is_harmless(token: dict[str, Any]) -> bool:
    """Whether an added token cannot be found across a cut. Special ones are not found in text at all."""
    if token["special"]:
        return True
    plain = not (token["lstrip"] or token["rstrip"] or token["single_word"])
    return plain and (" " not in token["content"] or token["content"].isspace())
