"""Joint encoding of template text, which may contain special tokens, and message contents, which may not.

A chat is encoded from pieces that record their owner. Special tokens are matched in template pieces only; everything
between two of them is encoded as one text, so a space of the template merges with the word after it exactly as in
transformers' `apply_chat_template`. Every token has an owner, so a loss mask needs no search.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlx_suite.text.backend import Backend

TEMPLATE = -1
"""Owner of text and tokens that come from the template."""
DEFINITIONS = -2
"""Owner of tool definitions: text of a client that belongs to no message."""

NO_TOKEN = -1
"""Instead of the id of a special token, where text is only cut."""
SEPARATORS = "\x1c\x1d\x1e\x1f"
"""Whitespace in Python, but not in Unicode's White_Space, which the tokenizers library follows."""
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of the rendered chat and its owner."""

    text: str
    owner: int
    """Index of the message whose content this is, TEMPLATE or DEFINITIONS."""
    trusted: bool = False
    """Whether special tokens are matched in this text although a message owns it: the template wrote it as a part of
    this response."""
    apart: bool = False
    """Whether tokens must not span the boundary between this piece and the text before it."""


@dataclass(frozen=True, kw_only=True)
class EncodedChat:
    """Token ids and the owner of each."""

    ids: list[int]
    """Token ids, `(L,)`."""
    owner: list[int]
    """Index of the message whose content the token encodes, or -1 (`TEMPLATE`), `(L,)`. A token with characters of both
    belongs to the message."""


def encode_pieces(backend: Backend, specials: re.Pattern[str] | None, pieces: Iterable[Piece]) -> EncodedChat:
    """Encode `pieces` as one text; `specials` matches the special tokens that template text may contain."""
    kept = [piece for piece in pieces if piece.text]
    text = replace_surrogates("".join(piece.text for piece in kept))
    owners: list[int] = []
    piece_ends: list[int] = []
    cuts: list[tuple[int, int, int, int]] = []
    for piece in kept:
        if piece.apart:
            cuts.append((len(owners), len(owners), NO_TOKEN, TEMPLATE))
        if specials is not None and (piece.owner == TEMPLATE or piece.trusted):
            for match in specials.finditer(piece.text):
                mark = backend.marks[match[0]]
                start, end = len(owners) + match.start(), len(owners) + match.end()
                if mark.eats_left:
                    start = _space_before(text, start)
                if mark.eats_right:
                    end = _space_after(text, end)
                cuts.append((start, end, mark.id, piece.owner))
        owners += [piece.owner] * len(piece.text)
        piece_ends += [len(owners)] * len(piece.text)
    piece_ends.append(0)  # an empty token at the end is in no piece
    ids: list[int] = []
    owner: list[int] = []
    place = 0
    for start, end, index, writer in [*cuts, (len(text), len(text), NO_TOKEN, TEMPLATE)]:
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
        if index != NO_TOKEN:
            ids.append(index)
            owner.append(writer)
        place = max(place, end)
    return EncodedChat(ids=ids, owner=owner)


def replace_surrogates(text: str) -> str:
    """Replace lone surrogates (half an emoji from broken JSON) by U+FFFD, which can be encoded."""
    try:
        text.encode()  # Ten times as fast as looking for them.
    except UnicodeEncodeError:
        return LONE_SURROGATE.sub("\ufffd", text)
    return text


def specials_pattern(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern that matches the longest special token at each position; None without special tokens."""
    longest_first = sorted((token for token in tokens if token), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _owner(owners: Sequence[int], first: int, last: int) -> int:
    """Owner of the characters [first, last): a message rather than TEMPLATE; the neighbour's for an empty token."""
    first = min(first, len(owners) - 1)
    return max(owners[first : max(last, first + 1)])


def _space_before(text: str, place: int) -> int:
    """Start of the whitespace before `place`."""
    while place > 0 and _is_space(text[place - 1]):
        place -= 1
    return place


def _space_after(text: str, place: int) -> int:
    """End of the whitespace that starts at `place`."""
    while place < len(text) and _is_space(text[place]):
        place += 1
    return place


def _is_space(letter: str) -> bool:
    return letter.isspace() and letter not in SEPARATORS
