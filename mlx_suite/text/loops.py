"""Loops: text that a model repeats without end, found while it is written.

A greedy model that has lost its thread repeats a phrase, a sentence or a paragraph until its limit. Lists, tables, code
and refrains repeat too, but not for long and hardly ever the same words: a block of prose counts as a loop much sooner
than one of digits or signs. Among words, numbers are compared as equal too, so "step 14, step 15, …" can be a loop, but
only a long one: a plan for 30 days is none.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

TAIL = 4000
"""Characters at the end of a text that are searched."""
_FEW_NEW = ((128, 56), (512, 160))
"""(last tokens, distinct ones among them): a text with more of them is not searched, which saves most of the cost."""

WORDS = 12
"""Letters from which a block counts as words."""

_DIGITS = re.compile(r"\d+")
_LETTER = re.compile(r"[^\W\d_]")
_CODE = re.compile(r"[|<>{}=;\[\]()_\\/*#`]")


@dataclass(frozen=True, kw_only=True)
class Loop:
    """A block of text that is repeated at the end."""

    block: str
    times: int


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """From how many repetitions, and characters in all, a kind of block is a loop."""

    times: int
    characters: int


_PROSE = _Kind(times=5, characters=200)
_PARAGRAPH = _Kind(times=3, characters=900)
_NUMBERED = _Kind(times=40, characters=600)
_CODE_LINES = _Kind(times=24, characters=800)
_FEW_LETTERS = _Kind(times=40, characters=300)
_SIGNS = _Kind(times=48, characters=700)
_NUMBERS = _Kind(times=150, characters=700)
_DIGIT = _Kind(times=200, characters=200)
"""The same digit: a googol has 100 zeros."""


def loop_of(text: str) -> Loop | None:
    """The shortest block that the text repeats at its end until it counts as a loop; None if there is none."""
    tail = re.sub(r"\s+", " ", text[-TAIL:]).casefold()
    found = _loop(tail, _kind)
    if found is None and _DIGITS.search(tail):
        found = _loop(_DIGITS.sub("0", tail), _numbered_kind)
    return found


def loop_check(decode: Callable[[Sequence[int]], str]) -> Callable[[Sequence[int]], bool]:
    """A function that is given the tokens of a text in flight and returns whether it loops; for `Sample.loops`."""

    def loops(tokens: Sequence[int]) -> bool:
        # Tokens have two characters or more on average.
        return _has_few_new(tokens) and loop_of(decode(tokens[-TAIL // 2 :])) is not None

    return loops


def _has_few_new(tokens: Sequence[int]) -> bool:
    return any(len(tokens) >= last and len(set(tokens[-last:])) <= distinct for last, distinct in _FEW_NEW)


def _kind(block: str) -> _Kind:
    letters = len(_LETTER.findall(block))
    if len(block) == 1 and block.isdigit():
        return _DIGIT
    if letters < WORDS:
        return _NUMBERS if _DIGITS.search(block) else _FEW_LETTERS if letters else _SIGNS
    if _CODE.search(block):
        return _CODE_LINES
    return _PARAGRAPH if len(block) >= 300 else _PROSE


def _numbered_kind(block: str) -> _Kind | None:
    """The kind of a block in which all numbers are 0; None without words, because numbers alone may well differ."""
    return _NUMBERED if len(_LETTER.findall(block)) >= WORDS else None


def _loop(tail: str, kind_of: Callable[[str], _Kind | None]) -> Loop | None:
    for period, length in _periods(tail):
        block, times = tail[-period:], length // period
        kind = kind_of(block)
        if kind is not None and times >= kind.times and length >= kind.characters:
            return Loop(block=block, times=times)
    return None


def _periods(text: str) -> list[tuple[int, int]]:
    """(period, length) of the longest suffix with each period, for suffixes of two blocks or more; shortest first.

    Knuth, Morris and Pratt's prefix function on the reversed text.
    """
    text = text[::-1]
    border = [0] * len(text)
    longest: dict[int, int] = {}
    for end in range(1, len(text)):
        length = border[end - 1]
        while length and text[end] != text[length]:
            length = border[length - 1]
        border[end] = length + (text[end] == text[length])
        period = end + 1 - border[end]
        if end + 1 >= 2 * period:
            longest[period] = end + 1
    return sorted(longest.items())
