"""The words of a text, as they are compared when rows are looked up: without case, layout and punctuation.

A word is a run of letters, digits and the marks that belong to them. A character that stands for something, as in
`3 + 4` or `C#`, is a word of its own: without it `3 + 4` and `3 * 4` were the same. In scripts that are written without
spaces every character is a word.
"""

import unicodedata

_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # Han radicals
    (0x3005, 0x3007),
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_MEANINGFUL = "%&#@*/\\-"
"""Punctuation by Unicode's classes that code and arithmetic need."""
_APOSTROPHES = "'\u2019"
"""Left out, not a gap: "don't" is one word."""


class _Spacing(dict[int, str]):
    """What `str.translate` puts in place of a character; found out once for each."""

    def __missing__(self, code: int) -> str:
        self[code] = spaced = _spaced(chr(code))
        return spaced


_SPACING = _Spacing()


def words(text: str) -> list[str]:
    """The words in order; empty for a text of punctuation alone."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return text.casefold().translate(_SPACING).split()


def folded(text: str) -> str:
    """Equal for texts that are the same but for case and whitespace."""
    return " ".join(text.split()).casefold()


def is_symbol(word: str) -> bool:
    """Whether a word is a single character that is neither letter nor digit."""
    return len(word) == 1 and not word.isalnum()


def is_without_spaces(word: str) -> bool:
    """Whether a word is a character of a script that puts none between words."""
    return len(word) == 1 and any(first <= ord(word) <= last for first, last in _WITHOUT_SPACES)


def _spaced(character: str) -> str:
    if character in _APOSTROPHES:
        return ""
    kind = unicodedata.category(character)[0]
    if kind in "LMN":
        return f" {character} " if is_without_spaces(character) else character
    if character == "_":
        return character
    # A backtick only marks code as such.
    stands_for_something = character in _MEANINGFUL or (kind == "S" and character != "`")
    return f" {character} " if stands_for_something else " "
