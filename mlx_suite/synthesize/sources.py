"""The texts to write from: those of a corpus, the long ones cut at sentence ends.

Joined again, the parts of a text are the text. What cannot be in a prompt is kept as raw text, with the reason.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlx_suite.synthesize.shards import Shard

BLANK_TEXT, NOT_CHOSEN = "blank", "not chosen"
"""Reasons to keep a text raw."""

_SENTENCES = re.compile(r"\n+|(?<=[.!?…。！？।])[\"'”’»)\]]*\s+|(?<=[。！？])")
_WORDS = re.compile(r"\s+")
CHARACTER_TOKENS = 4
"""Most tokens of a character in any vocabulary that falls back to bytes."""


@dataclass(frozen=True, kw_only=True)
class SourceText:
    """A text of the corpus, or a part of a long one."""

    number: int
    """Index of the text in the corpus."""
    text: str
    place: str
    part: int = 0
    parts: int = 1
    kept_raw: str = ""
    """Why nothing is written from it; empty if it is to be converted."""

    @property
    def key(self) -> str:
        """`12`, or `12.3` for the fourth part of text 12."""
        return f"{self.number}.{self.part}" if self.parts > 1 else str(self.number)

    @property
    def is_last_part(self) -> bool:
        return self.part == self.parts - 1


def sources_of(
    shard: Shard,
    chosen: frozenset[int],
    refusal: Callable[[str], str | None],
    split: Callable[[str], list[str]],
) -> list[SourceText]:
    """All texts of a shard in order; those that are to be converted may be in parts.

    Args:
        chosen: Indices in the corpus of the texts to convert.
        refusal: Why a text cannot be in a prompt; None if it can.
        split: Cuts a text into parts.
    """
    sources = []
    for number, each in enumerate(shard.texts, start=shard.start):
        blank = BLANK_TEXT if not each.text.strip() else ""
        reason = blank or ("" if number in chosen else NOT_CHOSEN) or refusal(each.text) or ""
        parts = [each.text] if reason else split(each.text)
        sources += [
            SourceText(
                number=number,
                text=text,
                place=each.place,
                part=part,
                parts=len(parts),
                kept_raw=reason or (BLANK_TEXT if not text.strip() else ""),
            )
            for part, text in enumerate(parts)
        ]
    return sources


def split_text(text: str, count: Callable[[str], int], most: int) -> list[str]:
    """Cut a text into parts of at most `most` tokens: at sentence ends, else between words, else between characters.

    Args:
        count: Number of tokens of a string. The tokens of a part are counted sentence by sentence, so they may differ
            by a few from those of the part as a whole.
    """
    assert most >= CHARACTER_TOKENS, "room for a character"
    # A text that is this short cannot have more tokens; the others are counted.
    if CHARACTER_TOKENS * len(text) <= most or count(text) <= most:
        return [text]
    return list(_packed(_sized(text, count, most, [_SENTENCES, _WORDS]), most))


def _sized(
    text: str, count: Callable[[str], int], most: int, boundaries: list[re.Pattern[str]]
) -> Iterator[tuple[str, int]]:
    """Pieces of at most `most` tokens, with their tokens."""
    if not boundaries:
        step = max(1, most // CHARACTER_TOKENS)
        for start in range(0, len(text), step):
            yield text[start : start + step], most
        return
    for piece in _pieces(text, boundaries[0]):
        tokens = count(piece)
        if tokens <= most:
            yield piece, tokens
        else:
            yield from _sized(piece, count, most, boundaries[1:])


def _pieces(text: str, boundary: re.Pattern[str]) -> Iterator[str]:
    """The text between boundaries, each piece with the boundary after it."""
    start = 0
    for found in boundary.finditer(text):
        if found.end() > start:
            yield text[start : found.end()]
            start = found.end()
    if start < len(text):
        yield text[start:]


def _packed(pieces: Iterator[tuple[str, int]], most: int) -> Iterator[str]:
    held, size = "", 0
    for piece, tokens in pieces:
        if held and size + tokens > most:
            yield held
            held, size = "", 0
        held, size = held + piece, size + tokens
    if held:
        yield held
