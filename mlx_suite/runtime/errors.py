"""The one error a user is meant to read.

Whatever a user can mend (a missing file, a wrong flag, a full disk) is raised as `UserError`; the
command line prints it as one block on stderr and leaves with exit code 2. Our own mistakes stay
`assert`s and tracebacks.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

SHOWN = 20
"""Details of one error that are shown; the rest are counted."""


class UserError(Exception):
    """Something the user can mend: what went wrong, where, and how to mend it.

    Args:
        what: One sentence that names the thing and the value at fault.
        where: The file, `file:line`, flag, or environment variable at fault. Empty leaves the line
            out.
        fix: The next thing to do, as a command or a flag where there is one. Empty leaves the line
            out.
        details: Every problem found, when there are several: one line each, shown under `what`.
    """

    def __init__(self, what: str, where: str = "", fix: str = "", details: Iterable[str] = ()) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        self.details: tuple[str, ...] = tuple(details)
        # All four go to Exception, so that the error survives pickling between processes.
        super().__init__(what, where, fix, self.details)

    def __str__(self) -> str:
        lines = [_labelled("error:", self.what)]
        lines += [_labelled("", f"- {detail}") for detail in self.details]
        if self.where:
            lines.append(_labelled("where:", self.where))
        if self.fix:
            lines.append(_labelled("fix:", self.fix))
        return "\n".join(lines)


def shortened(details: Sequence[object]) -> list[str]:
    """The first details, and how many more there are."""
    more = len(details) - SHOWN
    return [*map(str, details[:SHOWN]), *([f"and {more:,} more"] if more > 0 else [])]


def nearest_name(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """What to do about an unknown name: take the nearest, or one of all where none is at least `cutoff` like it."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    return f"did you mean {near[0]}?" if near else f"use one of {', '.join(names)}"


def _labelled(label: str, text: str) -> str:
    """Put `text` in the column behind the labels, later lines of it too."""
    first, *rest = text.splitlines() or [""]
    return "\n".join([f"{label:<7}{first}", *(f"{'':<7}{line}" for line in rest)])
