"""Facts that a text keeps, loses and invents, compared with the passage that it was written from.

A fact counts as kept if its value is mentioned: a text may phrase it in any way. Invented is a value that the passage
does not mention, although it is one of the values of a relation that the passage is about, or a person's name. Values
exchanged between two subjects of a passage are therefore not noticed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from .passages import WorldPassage
from .population import FAMILY_NAMES, GIVEN_NAMES
from .reading import VALUES

_ARTICLES = ("a ", "an ")


@dataclass(frozen=True, kw_only=True)
class FactCount:
    """Numbers of facts."""

    kept: int = 0
    lost: int = 0
    invented: int = 0

    def __add__(self, other: "FactCount") -> "FactCount":
        return FactCount(
            kept=self.kept + other.kept, lost=self.lost + other.lost, invented=self.invented + other.invented
        )


def count_facts(passage: WorldPassage, text: str) -> FactCount:
    """Compare a text with the passage that it was written from."""
    mentioned = set(_mentions(text))
    kept = sum(_bare(fact.value) in mentioned for fact in passage.facts)
    known = set(_mentions(passage.text)) | set(passage.subjects)
    return FactCount(kept=kept, lost=len(passage.facts) - kept, invented=len(mentioned - known))


def quoted_share(answer: str, text: str) -> float:
    """Share of the words of an answer that stand in runs of words of the text, greedily the longest first.

    Case and punctuation do not matter. A run of one word counts too.
    """
    wanted, there = _words(answer), f" {' '.join(_words(text))} "
    if not wanted:
        return 0.0
    place = quoted = 0
    while place < len(wanted):
        length = next(
            (n for n in range(len(wanted) - place, 0, -1) if f" {' '.join(wanted[place : place + n])} " in there), 0
        )
        quoted += length
        place += max(length, 1)
    return quoted / len(wanted)


def _mentions(text: str) -> Iterator[str]:
    """Values and names of people in a text, each as often as it occurs."""
    for found in _pattern().finditer(text):
        yield found[0]


@cache
def _pattern() -> re.Pattern[str]:
    values = {_bare(value) for values in VALUES.values() for value in values}
    longest_first = sorted(values, key=len, reverse=True)
    names = rf"(?:{'|'.join(GIVEN_NAMES)}) (?:{'|'.join(FAMILY_NAMES)})"
    return re.compile(rf"\b(?:{names}|{'|'.join(map(re.escape, longest_first))})\b")


def _bare(value: str) -> str:
    """A value without its article."""
    return next((value.removeprefix(each) for each in _ARTICLES if value.startswith(each)), value)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
