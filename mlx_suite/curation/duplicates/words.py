"""Split a text into words for comparison, ignoring case, layout and punctuation.

A word is a run of letters, digits and combining marks; in a name such as `C++` or `C#` the symbols at its end belong to
it. Any other meaningful symbol, as in `3 + 4`, is a separate word: without it `3 + 4` and `3 * 4` would be equal. In
scripts without spaces every character is a word.
"""

import re
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
"""Symbols of code and arithmetic that Unicode classes as punctuation."""
_APOSTROPHES = "'\u2019"
"""Removed without a gap: "don't" is one word."""


_SAME_SYMBOLS = str.maketrans({"−": "-", "×": "*", "÷": "/"})
_NAME_ENDS = re.compile(r"(?<=[^\W\d_])(?:\+\+(?!\+)|\+(?![\w+])|#(?![\w#]))")
"""Symbols at the end of a name: C++, C#, A+."""
_IN_NAME = str.maketrans({"+": "\ue000", "#": "\ue001"})
"""Private characters that stand for the symbols of a name while a text is split."""


class _Spacing(dict[int, str]):
    """Replacements for `str.translate`, computed once per character."""

    def __missing__(self, code: int) -> str:
        self[code] = spaced = _spaced(chr(code))
        return spaced


_SPACING = _Spacing({0xE000: "+", 0xE001: "#"})


def words(text: str) -> list[str]:
    """The words in order; empty for a text of punctuation only."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = text.translate(_SAME_SYMBOLS)
    if "+" in text or "#" in text:
        text = _NAME_ENDS.sub(lambda match: match[0].translate(_IN_NAME), text)
    return text.casefold().translate(_SPACING).split()


def folded(text: str) -> str:
    """A key shared by all texts that differ only in case and whitespace."""
    return " ".join(text.split()).casefold()


def is_symbol(word: str) -> bool:
    """True if a word is a single character other than a letter or digit."""
    return len(word) == 1 and not word.isalnum()


def is_without_spaces(word: str) -> bool:
    """True if a word is a character of a script without spaces."""
    return len(word) == 1 and any(first <= ord(word) <= last for first, last in _WITHOUT_SPACES)


def _spaced(character: str) -> str:
    if character in _APOSTROPHES:
        return ""
    kind = unicodedata.category(character)[0]
    if kind in "LMN":
        return f" {character} " if is_without_spaces(character) else character
    if character == "_":
        return character
    # A backtick is only markup.
    has_meaning = character in _MEANINGFUL or (kind == "S" and character != "`")
    return f" {character} " if has_meaning else " "
