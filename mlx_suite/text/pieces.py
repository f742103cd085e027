"""Text from two hands, joined and encoded: the template's, which may hold special tokens, and a
message's.

A chat is encoded from pieces that say who wrote them. Special tokens are looked for in the
template's pieces only; everything between two of them is one text for the tokenizer, so a space of
the template joins the word after it just as in transformers' `apply_chat_template`. Each token
knows whose it is, so a loss mask needs no search.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlx_suite.text.backend import Backend

TEMPLATE = -1
"""The owner of text and tokens that come from the template."""

SEPARATORS = "\x1c\x1d\x1e\x1f"
"""Whitespace to Python, not to Unicode's White_Space, which the tokenizers library follows."""
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some text and who wrote it."""

    text: str
    """The text as it stands in the rendered chat."""
    owner: int
    """Index of the message it is the content of, or TEMPLATE."""
    apart: bool = False
    """Whether no token may join its first character to the text before it."""


@dataclass(frozen=True, kw_only=True)
class EncodedChat:
    """Token ids and, for each, the message it belongs to."""

    ids: list[int]
    """Token ids, `(L,)`."""
    owner: list[int]
    """Index of the message whose content the token writes, or -1 (`TEMPLATE`), `(L,)`. A token that
    holds characters of both belongs to the message."""


def encode_pieces(backend: Backend, specials: re.Pattern[str] | None, pieces: Iterable[Piece]) -> EncodedChat:
    """Encode `pieces` as one text; `specials` matches the special tokens that the template may
    write."""
    kept = [piece for piece in pieces if piece.text]
    text = whole_characters("".join(piece.text for piece in kept))
    owners: list[int] = []
    piece_ends: list[int] = []
    cuts: list[tuple[int, int, int]] = []
    for piece in kept:
        if piece.apart:
            cuts.append((len(owners), len(owners), TEMPLATE))
        if piece.owner == TEMPLATE and specials is not None:
            for match in specials.finditer(piece.text):
                mark = backend.marks[match[0]]
                start, end = len(owners) + match.start(), len(owners) + match.end()
                if mark.eats_left:
                    start = _space_before(text, start)
                if mark.eats_right:
                    end = _space_after(text, end)
                cuts.append((start, end, mark.id))
        owners += [piece.owner] * len(piece.text)
        piece_ends += [len(owners)] * len(piece.text)
    piece_ends.append(0)  # nothing lies within what begins at the end
    ids: list[int] = []
    owner: list[int] = []
    place = 0
    for start, end, index in [*cuts, (len(text), len(text), TEMPLATE)]:
        if place < start:
            encoding = backend.encode(text[place:start], at_start=place == 0)
            ids += encoding.ids
            # Most tokens lie within one piece.
            owner += [
                owners[place + first]
                if place + last <= piece_ends[place + first]
                else _owner(owners, place + first, place + last)
                for first, last in encoding.spans
            ]
        if index != TEMPLATE:
            ids.append(index)
            owner.append(TEMPLATE)
        place = max(place, end)
    return EncodedChat(ids=ids, owner=owner)


def whole_characters(text: str) -> str:
    """`text` with lone surrogates (half an emoji from broken JSON) replaced by U+FFFD, which can be
    encoded."""
    return LONE_SURROGATE.sub("\ufffd", text)


def specials_pattern(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """An expression that finds the longest special token at each place, or None when there are
    none."""
    longest_first = sorted((token for token in tokens if token), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _owner(owners: Sequence[int], first: int, last: int) -> int:
    """The message among the characters first … last - 1; a token without characters goes with its
    neighbour."""
    first = min(first, len(owners) - 1)
    return max(owners[first : max(last, first + 1)])


def _space_before(text: str, place: int) -> int:
    """Where the whitespace in front of `place` begins."""
    while place > 0 and _is_space(text[place - 1]):
        place -= 1
    return place


def _space_after(text: str, place: int) -> int:
    """Where the whitespace from `place` on ends."""
    while place < len(text) and _is_space(text[place]):
        place += 1
    return place


def _is_space(letter: str) -> bool:
    return letter.isspace() and letter not in SEPARATORS
