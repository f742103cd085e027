"""Quotes, bold marks and HTML tags around a whole instruction, or left over at one end of it."""

import re

from mlx_suite.magpie.sanitiser.wording import begins_message

_QUOTES = tuple((pair[0], pair[1]) for pair in ('""', "''", "“”", "‘’", "«»", "„“", "„”", "「」", "『』", "＂＂"))
_DOUBLE = '"“”„«»「」『』＂'
_MARKS = ("***", "**", "__", "*", "_")
_TAGGED = re.compile(
    r"<(?P<tag>b|strong|i|em|u|p|div|span|h[1-6]|q|blockquote)(?:\s[^<>]*)?>(?P<inside>.*)</(?P=tag)>", re.I | re.S
)
_OPEN_TAG = re.compile(r"<(?P<tag>b|strong|i|em|u|p|div|span)>(?=[^\s<])", re.I)
_CLOSE_TAG = re.compile(r"(?<=[.?!。？！؟।])</(?P<tag>b|strong|i|em|u|p|div|span)>$", re.I)
_LINE_BREAKS = re.compile(r"(?:\s*<br\s*/?>)+$|^(?:<br\s*/?>\s*)+", re.I)
_ENDED = re.compile(r"[.?!。？！؟।]$")


def unwrapped(text: str) -> str:
    """`text` without one pair of quotes, marks or tags around all of it, or without a stray half of a pair."""
    for peel in (_unquoted, _unmarked, _untagged):
        inside = peel(text)
        if inside != text and inside.strip():
            return inside
    return text


def _unquoted(text: str) -> str:
    for opens, closes in _QUOTES:
        if len(text) > 2 and text[0] == opens and text[-1] == closes and _is_text(text[1:-1]):
            # 'Tis the boys': an apostrophe looks like a single quote, and none ends a sentence.
            apostrophes = opens in "'‘" and not _ENDED.search(text[:-1])
            if not apostrophes and not _holds_quote(text[1:-1], opens, closes):
                return text[1:-1]
    return _without_half_quote(text)


def _without_half_quote(text: str) -> str:
    """`text` without a double quote at one end that is the only one: the turn ended, or began, within the quotes."""
    if sum(text.count(quote) for quote in _DOUBLE) != 1:
        return text
    if text[0] in _DOUBLE and " " in text and begins_message(text[1:]):
        return text[1:]
    return text[:-1] if text[-1] in _DOUBLE and _ENDED.search(text[:-1]) else text


def _holds_quote(text: str, opens: str, closes: str) -> bool:
    if opens in "'‘":  # an apostrophe within a word is none
        return re.search(r"(?<![^\W_])['‘’]|['‘’](?![^\W_])", text) is not None
    return opens in text or closes in text


def _unmarked(text: str) -> str:
    for mark in _MARKS:
        size = len(mark)
        whole = len(text) > 2 * size and text.startswith(mark) and text.endswith(mark)
        if whole and _is_text(inside := text[size:-size]) and mark[0] not in (inside[0], inside[-1]):
            if mark not in inside and not inside[0].isspace() and not inside[-1].isspace():
                return inside
        if size > 1 and mark[0] == "*" and text.count(mark) == 1:
            if text.startswith(mark) and begins_message(text[size:]) and not text[size:].startswith(("*", " ")):
                return text[size:]
            if text.endswith(mark) and _ENDED.search(text[:-size]):
                return text[:-size]
    return text


def _untagged(text: str) -> str:
    bare = _LINE_BREAKS.sub("", text)
    if bare != text:
        return bare
    match = _TAGGED.fullmatch(text)
    if match and _is_text(match["inside"]):
        # Pairs within pairs go together. Any other markup within is the user's own, and so may be the pair around it:
        # "<b>one</b> and <b>two</b>" begins and ends with tags that are no pair.
        inside = _untagged(match["inside"].strip())
        return text if re.search(r"</?[a-z]", inside, re.IGNORECASE) else inside
    tags = re.findall(r"</?[a-z][^<>]*>", text, re.I)
    if len(tags) != 1:
        return text
    opened, closed = _OPEN_TAG.match(text), _CLOSE_TAG.search(text)
    if opened and begins_message(text[opened.end() :]):
        return text[opened.end() :]
    return text[: closed.start()] if closed else text


def _is_text(text: str) -> bool:
    """More than one word, or a script that does not part words: `"main"` and `__init__` are names."""
    return " " in text.strip() or not text.isascii()
