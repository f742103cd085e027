"""Search in titles and messages: text within text, without regard to case and accents.

A message matches if it contains every term of the query; quotes keep words together. The result is the same with and
without FTS5, whose index of trigrams only narrows down where to look.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from .conversation import Conversation

LONGEST_QUERY = 1000
"""Characters of a query that count."""
BEFORE, AFTER = 40, 120
"""Characters of an excerpt before and after the start of the first match."""

Pieces = tuple[tuple[str, bool], ...]
"""A text in pieces, and whether each is a match."""

_TERM = re.compile(r'"([^"]+)"|(\S+)')
_TRIGRAMS = 20
"""Trigrams of each term that are looked up; more hardly narrow the search."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A conversation that matches."""

    conversation: Conversation
    message: int | None
    """The newest matching message; None if only the title matches."""
    excerpt: Pieces
    """The text around the first match, on one line."""


class _Folded(dict[int, str]):
    """Folded text of each code point, for `str.translate`; computed on first use."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _fold(chr(code))
        return folded


def _fold(character: str) -> str:
    if character.isspace() or character == "\0":  # trigrams end at a NUL
        return " "
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    # Accents, and the selectors of an emoji's colored or plain variant, do not distinguish texts.
    return "".join(one for one in plain if not ("\u0300" <= one <= "\u036f" or "\ufe00" <= one <= "\ufe0f"))


_FOLDED = _Folded()


def folded(text: str) -> str:
    """The form in which texts are compared: `Größe` and `GROSSE` are equal."""
    return text.translate(_FOLDED)


def terms(query: str) -> list[str]:
    """The folded terms of a query; text in double quotes is one term."""
    found = (folded(phrase or word) for phrase, word in _TERM.findall(query[:LONGEST_QUERY]))
    return [term for term in dict.fromkeys(found) if term]


def index_text(db: sqlite3.Connection, row: int, text: str) -> None:
    """Make a text searchable in place of what the row had: a message by its id, a title by minus its conversation's."""
    db.execute("DELETE FROM search WHERE rowid = ?", (row,))
    db.execute("INSERT INTO search (rowid, folded) VALUES (?, ?)", (row, folded(text)))


def matching(
    db: sqlite3.Connection, wanted: Sequence[str], limit: int, *, has_index: bool
) -> list[tuple[int, int | None]]:
    """Conversations that match, the last updated first, each with its newest matching message."""
    assert wanted
    conditions = ["instr(folded, ?) > 0"] * len(wanted)
    values: list[object] = [*wanted]
    trigrams = _trigrams(wanted) if has_index else []
    if trigrams:
        conditions.append("search MATCH ?")
        values.append(" AND ".join('"' + trigram.replace('"', '""') + '"' for trigram in trigrams))
    rows = db.execute(
        f"""
        WITH hit AS (SELECT rowid AS id FROM search WHERE {" AND ".join(conditions)}),
        found AS (
            SELECT coalesce(message.conversation, -hit.id) AS conversation, max(message.id) AS message
            FROM hit LEFT JOIN message ON message.id = hit.id GROUP BY 1
        )
        SELECT conversation.id, found.message FROM found JOIN conversation ON conversation.id = found.conversation
        ORDER BY conversation.updated DESC, conversation.id DESC LIMIT ?
        """,
        (*values, limit),
    )
    return [(conversation, message) for conversation, message in rows]


def _trigrams(wanted: Sequence[str]) -> list[str]:
    """Three consecutive characters each, from the start of each term; none of a shorter one."""
    found = [term[at : at + 3] for term in wanted for at in range(min(len(term) - 2, _TRIGRAMS))]
    return list(dict.fromkeys(found))


def excerpt(text: str, wanted: Sequence[str]) -> Pieces:
    """The text around the first match of the folded terms, on one line, with all matches in it marked."""
    characters = [_FOLDED[ord(character)] for character in text]
    whole = "".join(characters)
    origin = [place for place, character in enumerate(characters) for _ in character]
    is_match = [False] * len(text)
    for term in wanted:
        at = whole.find(term)
        while at >= 0:
            for place in range(origin[at], origin[at + len(term) - 1] + 1):
                is_match[place] = True
            at = whole.find(term, at + len(term))
    for place in range(1, len(text)):  # an accent that is a character of its own
        if not characters[place]:
            is_match[place] = is_match[place - 1]
    first = is_match.index(True) if True in is_match else 0
    begin, end = max(0, first - BEFORE), min(len(text), first + AFTER)
    pieces: list[tuple[str, bool]] = [("…", False)] if begin else []
    for place in range(begin, end):
        character = " " if text[place].isspace() else text[place]
        if pieces and pieces[-1][1] == is_match[place]:
            pieces[-1] = (pieces[-1][0] + character, is_match[place])
        else:
            pieces.append((character, is_match[place]))
    if end < len(text):
        pieces.append(("…", False)) if pieces[-1][1] else pieces.append((pieces.pop()[0] + "…", False))
    return tuple(pieces)
