"""Markdown whose end has not been written yet: what of it can be shown without jumping when the rest arrives.

`Text` and then `-` would be a heading for a moment, before the line becomes a list; `**bold` would show its stars, and
the first row of a table its bars. All of this is about looks: whatever comes out is rendered as safely as any text.
"""

import re

_FENCE = re.compile(r"[ \t>]*+(?:[-*+][ \t]+|\d{1,9}[.)][ \t]+)?(`{3,}|~{3,})(.*)")
# A line so far of marks, or of a number that may be an item's: no word yet.
_MARKS_ONLY = re.compile(r"[\s>]*+(?:\d{1,9}[.)]?(?=\s|$))?[-=*_+#~`|:>\s]*+")
_PART = re.compile(r"\\.|`+|\*+|~~|!?\[|\]\(|[\])]|[^\\`*~!\[\])]+|.", re.DOTALL)

_LONGEST_TABLE_HEAD = 200


def settled(text: str) -> str:
    """`text` without a last line that could still become anything, its open emphasis, code and link closed."""
    before, newline, last = text.rpartition("\n")
    fence = _open_fence(before)
    if fence:
        # Anything may stand in code, but the first ticks of the closing fence are none.
        return before + newline if last.strip() and not last.strip().strip(fence[0]) else text
    above = _without_table_head(before)
    if not last:
        return text if above == before else above
    if _MARKS_ONLY.fullmatch(last):
        return above
    if _without_table_head(text) != text:
        return before
    if _FENCE.match(last):
        return text
    return before + newline + _closed(last)


def _open_fence(text: str) -> str:
    """The marks that opened the fence in which `text` ends; empty outside of one."""
    fence = ""
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if found is None:
            continue
        marks, info = found.groups()
        if not fence and not (marks[0] == "`" and "`" in info):
            fence = marks
        elif fence and marks.startswith(fence) and not info.strip():
            fence = ""
    return fence


def _without_table_head(text: str) -> str:
    """`text` without its last line, if that could be the first row of a table."""
    before, _, last = text.rpartition("\n")
    alone = _is_row(last) and not _is_row(before.rpartition("\n")[2])
    return before if alone and len(last) < _LONGEST_TABLE_HEAD else text


def _is_row(line: str) -> bool:
    return line.lstrip(" \t>").startswith("|")


def _closed(line: str) -> str:
    """`line` with its open code and emphasis closed, and of an open link the label only."""
    parts: list[str] = _PART.findall(line)
    code, target = "", -1
    labels: list[int] = []
    emphasis: list[str] = []
    for at, part in enumerate(parts):
        if code:
            # Within code a backslash is only a backslash.
            code = "" if part.lstrip("\\") == code else code
        elif target >= 0:
            if part == ")":
                target = -1
                labels.pop()
        elif part[0] == "`":
            code = part
        elif part in ("[", "!["):
            labels.append(at)
        elif part == "](" and labels:
            target = at
        elif part == "]" and labels and at + 1 < len(parts):
            labels.pop()
        elif part[0] in "*~" and not _closes(parts, at, emphasis) and _opens(parts, at):
            emphasis.append(part)
    if target >= 0:
        parts = [*parts[: labels[-1]], *parts[labels[-1] + 1 : target]]
    elif labels and _starts_label(parts, labels[-1]):
        parts = [*parts[: labels[-1]], *parts[labels[-1] + 1 : -1 if parts[-1] == "]" else None]]
    return _end(parts, [*emphasis, code] if code else emphasis)


def _starts_label(parts: list[str], at: int) -> bool:
    """Whether the bracket is likelier to be a link's than that of [1, 2] or a[i]."""
    before = parts[at - 1][-1] if at else " "
    after = parts[at + 1][0] if at + 1 < len(parts) else "a"
    return after.isalpha() and not before.isalnum()


def _closes(parts: list[str], at: int, emphasis: list[str]) -> bool:
    """Whether the mark closes emphasis, which it then takes off the list; *** closes both * and **."""
    mark, rest = parts[at][0], len(parts[at])
    if at == 0 or parts[at - 1][-1].isspace():
        return False
    while emphasis and emphasis[-1][0] == mark and len(emphasis[-1]) <= rest:
        rest -= len(emphasis.pop())
    return rest < len(parts[at])


def _opens(parts: list[str], at: int) -> bool:
    """Whether the mark stands before a word: not inside one, and not alone as in 2 * 3."""
    before = parts[at - 1][-1] if at else " "
    after = parts[at + 1][0] if at + 1 < len(parts) else ""
    return not before.isalnum() and not after.isspace()


def _end(parts: list[str], opened: list[str]) -> str:
    """The line of `parts` with the marks of `opened` closed; those after which nothing is written yet are left out."""
    text = "".join(parts)
    if not opened:
        return text
    text = text.rstrip(" \t")
    while opened and text.endswith(opened[-1]):
        text = text.removesuffix(opened.pop()).rstrip(" \t")
    if opened and parts[-1][0] in ("`" if opened[-1][0] == "`" else "*~\\"):
        # The first half of a mark that is still being written.
        text = text.removesuffix(parts[-1]).rstrip(" \t")
    return text + "".join(reversed(opened))
