"""What is not the user's message, taken out of what a model wrote in the user's place.

The text is read as lines, some of them code. A rule takes something away at the front, at the end or around the text;
none cuts into the message: later questions, lists, code, pasted input and other scripts stay. In doubt nothing is
removed. Where the rules come from: the list of what Magpie's own sanitiser looks for (arXiv 2406.08464,
`instruction_post_process`), without what it loses.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlx_suite.magpie.sanitiser.code_blocks import code, fenced_blocks, fences, is_fence
from mlx_suite.magpie.sanitiser.labels import without_heading, without_label, without_number
from mlx_suite.magpie.sanitiser.leaked_roles import without_next_turn, without_user_header
from mlx_suite.magpie.sanitiser.own_answer import without_answer
from mlx_suite.magpie.sanitiser.wording import begins_message
from mlx_suite.magpie.sanitiser.wrapping import unwrapped

Rule = Callable[[str], str]
"""Takes a text without whitespace around it, gives it without what the rule is about."""


@dataclass(frozen=True, kw_only=True)
class Sanitised:
    """A text with only the message left."""

    text: str
    """Without whitespace around it. Empty where nothing of the text was a message."""
    removed: tuple[str, ...]
    """Names of the rules that changed it, each once, in the order of `RULES`. Whitespace at the ends does not count."""


def sanitise(text: str) -> Sanitised:
    """Take out what is not the user's message.

    The result is never longer than `text`, and stays the same when given again. Text in a fenced block is never
    changed: a rule that would change it is not applied.
    """
    text, removed = text.strip(), set()
    changed = True
    while changed:
        changed = False
        for name, rule in RULES:
            after = rule(text).strip() if text else text
            if after != text and _keeps_code(text, after):
                text, changed = after, True
                removed.add(name)
    return Sanitised(text=text, removed=tuple(name for name in NAMES if name in removed))


def _keeps_code(before: str, after: str) -> bool:
    """Whether the fenced blocks are the same ones, but for those that a cut at the end took along."""
    kept = fenced_blocks(after)
    return kept == fenced_blocks(before)[: len(kept)]


def without_control_characters(text: str) -> str:
    """`text` without characters that are neither text nor layout; marks that join or direct letters stay."""
    lines = text.split("\n")
    shown = [line if number else _shown(line) for line, number in zip(lines, fences(lines), strict=True)]
    return "\n".join(shown)


def _shown(line: str) -> str:
    line = line.removeprefix("\ufeff")
    bare = "".join(
        " " if letter in _SEPARATING else letter
        for letter in line.rstrip("\r")
        if letter == "\t" or letter in _SEPARATING or unicodedata.category(letter) != "Cc"
    )
    return bare if is_fence(bare) == is_fence(line) else line


_SEPARATING = "\v\f\r\x85"
_RULE_LINE = re.compile(r"\s*(?:([-*_=~#])(?:\s*\1){2,}|#{1,6})\s*$")
_LEADING_MARK = re.compile(r"[:：,，、。]\s+(?=\S)")
_CODE_LINE = re.compile(
    r"\s{2,}\S|(?:def|class|import|from|function|func|fn|public|private|static|const|let|var|package)\b|[@#}]|.*[;{}]\s*$"
)
BLANK_LINES = 2
"""Blank lines in a row that may stay: two part sections."""


def without_separators(text: str) -> str:
    """`text` without lines of `---` or a bare `#` at its ends, an empty code block, or a stray mark in front."""
    lines = text.split("\n")
    numbers = fences(lines)
    if numbers[-1] and numbers.count(numbers[-1]) == 1:
        return "\n".join(lines[:-1])  # a fence that opens nothing
    drawn = [place for place, line in enumerate(lines) if not numbers[place] and _RULE_LINE.match(line)]
    # Several of them are a structure: front matter, a drawing, sections.
    if len(drawn) == 1 and len(lines) > 1:
        if drawn[0] == len(lines) - 1 and not _underlines(lines):
            return "\n".join(lines[:-1])
        if drawn[0] == 0:
            return "\n".join(lines[1:])
    match = _LEADING_MARK.match(text)
    return text[match.end() :] if match and begins_message(text[match.end() :]) else text


def _underlines(lines: Sequence[str]) -> bool:
    """Whether the last line makes a heading of the one before."""
    return lines[-1].lstrip().startswith("=") and bool(lines[-2].strip())


def without_blank_lines(text: str) -> str:
    """`text` with at most one blank line where more than `BLANK_LINES` stand between lines that are no code."""
    lines = text.split("\n")
    is_code = [hidden or bool(_CODE_LINE.match(line)) for line, hidden in zip(lines, code(lines), strict=True)]
    kept: list[str] = []
    place = 0
    while place < len(lines):
        end = place
        while end < len(lines) and not lines[end].strip() and not is_code[end]:
            end += 1
        if end == place:
            kept.append(lines[place])
            place += 1
            continue
        among_code = (place > 0 and is_code[place - 1]) or (end < len(lines) and is_code[end])
        kept += lines[place:end] if among_code or end - place <= BLANK_LINES else lines[place : place + 1]
        place = end
    return "\n".join(kept)


RULES: Sequence[tuple[str, Rule]] = (
    ("control_characters", without_control_characters),
    ("role_header", without_user_header),
    ("next_turn", without_next_turn),
    ("own_answer", without_answer),
    ("separator", without_separators),
    ("wrapping", unwrapped),
    ("label", without_label),
    ("number", without_number),
    ("heading", without_heading),
    ("blank_lines", without_blank_lines),
)
"""Every rule by its name, in the order in which they are tried, again and again until none finds anything."""

NAMES = tuple(name for name, _ in RULES)
"""What `Sanitised.removed` may hold."""
