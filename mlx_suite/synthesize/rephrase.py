"""What can be written from a text: pairs, the text in another form, its continuation; and when a rewrite is useless."""

import re
from collections.abc import Mapping, Sequence

from mlx_suite.curation.duplicates.lexical import similarity
from mlx_suite.curation.duplicates.words import is_symbol, words
from mlx_suite.runtime.errors import UserError, nearest_name
from mlx_suite.synthesize.format import EMPTY

PAIRS, PIT, CONTINUE = "pairs", "pit", "continue"
REPHRASINGS: Mapping[str, str] = {
    "prose": "the same content in other words",
    "faq": "questions and answers",
    "table": "a table",
    "tutorial": "a tutorial in steps",
    "quiz": "a quiz with its answers at the end",
}
"""Forms of a rewrite, explained."""
FORMS: Mapping[str, str] = {
    PAIRS: "the text, then instruction-response pairs about it",
    PIT: "the pairs first, then the text (pre-instruction-tuning, arXiv 2402.12847)",
    **REPHRASINGS,
    CONTINUE: "what may follow the text",
}
"""All forms, explained."""
COPY = "a copy of its text"
SAME = 0.9
"""Jaccard similarity of words and word pairs from which a rewrite is a copy of its text."""
_SENTENCE_END = re.compile(r"[.!?…。！？।](?:[\"'”’»)\]]*)(?=\s|$)|[。！？]|\n")


def writes_pairs(form: str) -> bool:
    """Whether a form consists of instruction-response pairs."""
    return form in (PAIRS, PIT)


def check_forms(forms: Sequence[str]) -> None:
    """Raise UserError for an unknown form, for none, and for pairs both before and after the text."""
    for form in forms:
        if form not in FORMS:
            raise UserError(f"There is no form {form!r}", where="--as", fix=nearest_name(form, FORMS))
    if not forms:
        raise UserError("No form is given", where="--as", fix=f"use one or more of {', '.join(FORMS)}")
    if PAIRS in forms and PIT in forms:
        raise UserError(
            "pairs and pit are the same pairs, after the text and before it",
            where="--as",
            fix="choose one of them",
        )
    if len(set(forms)) < len(forms):
        raise UserError("A form is given twice", where="--as", fix="give each form once")


def rejection(text: str, rewrite: str) -> str | None:
    """Why a rewrite of a text is useless; None if it is not."""
    if all(is_symbol(word) for word in words(rewrite)):
        return EMPTY
    return COPY if similarity(" ".join(words(text)), " ".join(words(rewrite))) >= SAME else None


def whole_sentences(continuation: str, reason: str) -> str | None:
    """A continuation up to its last sentence end, if it reached its limit of tokens.

    Args:
        reason: Why generation ended, as in `engine.program.Written`.

    Returns None if it has no complete sentence.
    """
    if reason == "stop":
        return continuation.strip()
    ends = [found.end() for found in _SENTENCE_END.finditer(continuation)]
    return (continuation[: ends[-1]].strip() or None) if ends else None
