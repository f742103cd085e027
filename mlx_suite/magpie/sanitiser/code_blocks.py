"""Which lines of a text are code: fenced blocks as CommonMark knows them (§4.5), and indented lines.

A fence that is never closed holds everything behind it: rather too much is kept than too little.
"""

import re
from collections.abc import Sequence
from itertools import groupby

_FENCE = re.compile(r"\s*(?P<mark>`{3,}(?=[^`]*$)|~{3,})(?P<info>.*)$")
_INDENTED = re.compile(r"(?: {4}|\t)\s*\S")


def fences(lines: Sequence[str]) -> list[int]:
    """For each line the number of the fenced block it belongs to, from 1; 0 for none. Fences belong to their block."""
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
    """For each line whether it is code: within a fence, or indented by four spaces or a tab."""
    return [number > 0 or _INDENTED.match(line) is not None for line, number in zip(lines, fences(lines), strict=True)]


def fenced_blocks(text: str) -> list[str]:
    """The fenced blocks of a text with their fences, in order. Whitespace at the end of one is left out."""
    lines = text.split("\n")
    pairs = zip(fences(lines), lines, strict=True)
    return ["\n".join(line for _, line in block).rstrip() for number, block in groupby(pairs, lambda p: p[0]) if number]
