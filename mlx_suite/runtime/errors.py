"""`UserError`: the error that users are meant to read.

Everything a user can fix (a missing file, a wrong flag, a full disk) is raised as `UserError`; the command line prints
it as one block on stderr and exits with code 2. Bugs of ours stay `assert`s and tracebacks.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

_log = logging.getLogger("mlx_suite")

SHOWN = 20
"""Details of an error that are shown; the rest are counted."""


class UserError(Exception):
    """A problem the user can fix: what is wrong, where, and how to fix it.

    Args:
        what: One sentence that names the thing and the value at fault.
        where: The file, `file:line`, flag, or environment variable at fault; empty to omit the line.
        fix: What to do next, as a command or flag where possible; empty to omit the line.
        details: All problems, if there are several: one line each, shown under `what`.
    """

    def __init__(self, what: str, where: str = "", fix: str = "", details: Iterable[str] = ()) -> None:
        self.what = what
        self.where = where
        self.fix = fix
        self.details: tuple[str, ...] = tuple(details)
        # Exception gets all four, so that the error can be pickled between processes.
        super().__init__(what, where, fix, self.details)

    def __str__(self) -> str:
        lines = [_labelled("error:", self.what)]
        lines += [_labelled("", f"- {detail}") for detail in self.details]
        if self.where:
            lines.append(_labelled("where:", self.where))
        if self.fix:
            lines.append(_labelled("fix:", self.fix))
        return "\n".join(lines)


@cache
def warn_once(message: str) -> None:
    """Warn on stderr, once per process, of something that is not as its files say but works."""
    _log.warning("%s", message)


def shortened(details: Sequence[object]) -> list[str]:
    """The first `SHOWN` details, and a line that counts the rest."""
    more = len(details) - SHOWN
    return [*map(str, details[:SHOWN]), *([f"and {more:,} more"] if more > 0 else [])]


def nearest_name(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """A fix for an unknown name: suggest the nearest known one, or list all if none has a similarity of `cutoff`.

    Upper and lower case are alike.
    """
    names = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), names, n=1, cutoff=cutoff)
    return f"did you mean {names[near[0]]}?" if near else f"use one of {', '.join(names.values())}"


def check_rules(settings: Any, rules: Mapping[str, tuple[bool, str]], where: str, command: str) -> None:
    """Validate settings and report every violation in one error.

    Args:
        rules: For each field, whether its value is valid and what it must be.
        where: File or flag named in the error.
        command: Command whose help explains the settings.

    Raises UserError for fields with invalid values.
    """
    problems = [
        f"{name} is {getattr(settings, name)!r}: {wanted}" for name, (valid, wanted) in rules.items() if not valid
    ]
    if problems:
        raise invalid("setting", problems, command, where)


def invalid(kind: str, problems: Sequence[str], command: str, where: str = "") -> UserError:
    """The error for invalid settings or flags, one line each; `command` is the help that explains them."""
    return UserError(
        f"A {kind} is invalid" if len(problems) == 1 else f"{len(problems)} {kind}s are invalid",
        where=where,
        fix=f"see {command} for the allowed values",
        details=problems,
    )


def _labelled(label: str, text: str) -> str:
    """`text` with `label` before its first line, and its later lines indented to match."""
    first, *rest = text.splitlines() or [""]
    return "\n".join([f"{label:<7}{first}", *(f"{'':<7}{line}" for line in rest)])
