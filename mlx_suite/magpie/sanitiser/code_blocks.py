"""Which lines of a text are code: fenced blocks (CommonMark §4.5) and indented lines.

An unclosed fence runs to the end of the text: keeping too much is safer than keeping too little.
"""

import re
from collections.abc import Sequence
from itertools import groupby

_FENCE = re.compile(r"\s*(?P<mark>`{3,}(?=[^`]*$)|~{3,})(?P<info>.*)$")
_INDENTED = re.compile(r"(?: {4}|\t)\s*\S")


def fences(lines: Sequence[str]) -> list[int]:
    """Per line, the 1-based number of its fenced block, fence lines included; 0 outside of fences."""
    numbers: list[int] = []
    opened, blocks = "", 0
    for line in lines:
        match = _FENCE.match(line)
        if opened:
            numbers.append(blocks)
            if match and match["mark"].startswith(opened) and not match["info"].strip():
                opened = ""
        elif match:
            opened, blocks = match["mark"], blocks + 1
            numbers.append(blocks)
        else:
            numbers.append(0)
    return numbers


def is_fence(line: str) -> bool:
    """Whether the line would open or close a fenced block."""
    return _FENCE.match(line) is not None


def code(lines: Sequence[str]) -> list[bool]:
    """Per line, whether it is code: in a fenced block, or indented by four spaces or a tab."""
    return [number > 0 or _INDENTED.match(line) is not None for line, number in zip(lines, fences(lines), strict=True)]


def fenced_blocks(text: str) -> list[str]:
    """The fenced blocks of a text in order, fences included, trailing whitespace stripped."""
    lines = text.split("\n")
    pairs = zip(fences(lines), lines, strict=True)
    return ["\n".join(line for _, line in block).rstrip() for number, block in groupby(pairs, lambda p: p[0]) if number]
