"""Sanitise an instruction: remove everything that is not the user's message from what the model wrote as the user.

A rule removes something before, after or around the text; none cuts into the message: later questions, lists, code,
pasted input and non-Latin scripts stay. When in doubt, it removes nothing. The rules cover what Magpie's own sanitiser
looks for (arXiv 2406.08464, `instruction_post_process`), without its losses.

Role headers and turn markers appear here spelled out in ordinary tokens: the special tokens themselves end the turn.
Questions about them ("What does <|eot_id|> mean?") and pasted prompts keep them.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlx_suite.magpie.sanitiser.code_blocks import code, fenced_blocks, fences, is_fence
from mlx_suite.magpie.sanitiser.own_answer import without_answer
from mlx_suite.magpie.sanitiser.wording import begins_message
from mlx_suite.magpie.sanitiser.wrapping import unwrapped, without_heading, without_label, without_number

Rule = Callable[[str], str]
"""Takes a stripped text and returns it without what the rule removes."""


_START = r"(?:<\|begin_of_text\|>|<bos>|<s>|<\|endoftext\|>)"
_END = r"(?:<\|eot_id\|>|<\|end_of_text\|>|<end_of_turn>|<eos>|<\|im_end\|>|<\|endoftext\|>|<\|end\|>|</s>|\[/INST\])"
_OPEN = r"(?:<\|start_header_id\|>|<start_of_turn>|<\|im_start\|>|<\|(?:user|system|assistant)\|>|\[INST\])"
_HEADER = re.compile(
    rf"(?:{_START}\s*)*(?:<\|start_header_id\|>\s*user\s*<\|end_header_id\|>|<start_of_turn>\s*user\b"
    r"|<\|im_start\|>\s*user\b|<\|user\|>|\[INST\])\s*"
)
_OPENER = re.compile(_OPEN)
_ANSWERER = r"(?:<\|start_header_id\|>\s*assistant|<\|im_start\|>\s*assistant|<start_of_turn>\s*model|<\|assistant\|>)"
_TURN_END = re.compile(
    rf"(?<=[^\s\"'`‘’“”(]){_END}(?=\s*$|\s*\n)|(?<=[.?!] )\[/INST\]|{_END}(?=\s*{_OPEN})|^{_ANSWERER}", re.MULTILINE
)
_ROLE_LINE = re.compile(r"(?:user|human)[ \t]*\n(?:[ \t]*\n)?", re.IGNORECASE)
_LISTED = re.compile(r"[^\s.!?:]{1,20}$")


@dataclass(frozen=True, kw_only=True)
class Sanitised:
    """A sanitised text: the message alone."""

    text: str
    """Stripped; empty if no part of the text was a message."""
    removed: tuple[str, ...]
    """Names of the rules that changed the text, each once, in the order of `RULES`; stripping does not count."""


def sanitise(text: str) -> Sanitised:
    """Remove what is not the user's message.

    The result is never longer than `text`, and sanitising it again changes nothing. Fenced blocks are never altered: a
    rule that would alter one is not applied.
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
    """Whether the fenced blocks are unchanged, apart from those removed by a cut at the end."""
    kept = fenced_blocks(after)
    return kept == fenced_blocks(before)[: len(kept)]


def without_user_header(text: str) -> str:
    """`text` without a leading user header: `<|im_start|>user`, or the bare role name that remains of one."""
    match = _HEADER.match(text)
    if match is None and (bare := _ROLE_LINE.match(text)):
        first = text[bare.end() :].split("\n", 1)[0].strip()
        # "user" may be the first item of a list of words.
        if begins_message(first) and not _LISTED.match(first):
            match = bare
    return text[match.end() :] if match and text[match.end() :].strip() else text


def without_next_turn(text: str) -> str:
    """`text` up to a spelled-out marker that ends the user's turn."""
    lines = text.split("\n")
    is_code = code(lines)
    place = 0
    for line, hidden in zip(lines, is_code, strict=True):
        match = None if hidden else _TURN_END.search(text, place, place + len(line) + 1)
        if match and match.start() <= place + len(line) and text[: match.start()].strip():
            # An earlier header means that a prompt was pasted.
            return text if _OPENER.search(text, 0, match.start()) else text[: match.start()]
        place += len(line) + 1
    return text


def without_control_characters(text: str) -> str:
    """`text` without control characters; joiners and direction marks stay."""
    lines = text.split("\n")
    lines = [line if number else _printable(line) for line, number in zip(lines, fences(lines), strict=True)]
    return "\n".join(lines)


def _printable(line: str) -> str:
    line = line.removeprefix("\ufeff")
    bare = "".join(
        " " if char in _SEPARATING else char
        for char in line.rstrip("\r")
        if char == "\t" or char in _SEPARATING or unicodedata.category(char) != "Cc"
    )
    return bare if is_fence(bare) == is_fence(line) else line


_SEPARATING = "\v\f\r\x85"
_RULE_LINE = re.compile(r"\s*(?:([-*_=~#])(?:\s*\1){2,}|#{1,6})\s*$")
_LEADING_MARK = re.compile(r"[:：,，、。]\s+(?=\S)")
_CODE_LINE = re.compile(
    r"\s{2,}\S|(?:def|class|import|from|function|func|fn|public|private|static|const|let|var|package)\b|[@#}]|.*[;{}]\s*$"
)
BLANK_LINES = 2
"""Consecutive blank lines that may stay: two separate sections."""


def without_separators(text: str) -> str:
    """`text` without a line of `---` or a bare `#` at its ends, an empty code block, or a stray leading mark."""
    lines = text.split("\n")
    numbers = fences(lines)
    if numbers[-1] and numbers.count(numbers[-1]) == 1:
        return "\n".join(lines[:-1])  # a fence that opens an empty block
    drawn = [place for place, line in enumerate(lines) if not numbers[place] and _RULE_LINE.match(line)]
    # Several rule lines are a structure: front matter, a drawing, sections.
    if len(drawn) == 1 and len(lines) > 1:
        if drawn[0] == len(lines) - 1 and not _underlines(lines):
            return "\n".join(lines[:-1])
        if drawn[0] == 0:
            return "\n".join(lines[1:])
    match = _LEADING_MARK.match(text)
    return text[match.end() :] if match and begins_message(text[match.end() :]) else text


def _underlines(lines: Sequence[str]) -> bool:
    """Whether the last line underlines the one before as a heading."""
    return lines[-1].lstrip().startswith("=") and bool(lines[-2].strip())


def without_blank_lines(text: str) -> str:
    """`text` with runs of more than `BLANK_LINES` blank lines outside of code reduced to one."""
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
"""All rules by name, in the order they are tried; the list is repeated until none changes the text."""

NAMES = tuple(name for name, _ in RULES)
"""Possible values in `Sanitised.removed`."""
