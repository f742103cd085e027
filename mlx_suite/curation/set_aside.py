"""Rows that a command sets aside because they cannot be read as conversations or used, each with its reasons."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.data.read.records import Problem

CANNOT_BE_READ = "cannot be read"
UNREADABLE = "unreadable"
"""Reason in the files of stages whose reasons are single words."""
SHOWN = 5
"""Reasons that `lines` names; the others are counted together."""


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """A row that cannot be read or used."""

    position: int
    """Index among all rows of the dataset, readable or not, starting at 0."""
    place: str
    """`file:line`, or the file and the number of the row."""
    reasons: tuple[str, ...]
    """Everything wrong with the row."""
    value: Any = None
    """The row as written; None if it is not JSON."""

    def as_row(self) -> dict[str, Any]:
        """JSON object for a file of rows that were not used."""
        return {"place": self.place, "problem": "; ".join(self.reasons), "original": self.value}


def set_aside_of(problems: Sequence[Problem]) -> list[SetAside]:
    """The rows that have problems, in their order."""
    reasons: dict[str, list[str]] = {}
    for problem in problems:
        reasons.setdefault(problem.place, []).append(problem.what)
    return [
        SetAside(position=number, place=place, reasons=tuple(whats))
        for number, (place, whats) in enumerate(reasons.items())
    ]


def set_aside_facts(rows: Sequence[SetAside]) -> dict[str, Any]:
    """Fields of `--json`: the number of rows, rows by reason, and every place with its reasons."""
    return {
        "rows": len(rows),
        "reasons": dict(_by_reason(rows).most_common()),
        "places": {row.place: list(row.reasons) for row in rows},
    }


def set_aside_lines(rows: Sequence[SetAside], total: int, why: str = CANNOT_BE_READ) -> Iterator[str]:
    """Sentences for people: how many of `total` rows are set aside, and the most frequent reasons."""
    if not rows:
        return
    yield f"{len(rows):,} of {total:,} rows {why} and {'is' if len(rows) == 1 else 'are'} set aside:"
    reasons = _by_reason(rows).most_common()
    for reason, count in reasons[:SHOWN]:
        first = next(row.place for row in rows if row.reasons[0] == reason)
        yield f"{count:,}: {reason} ({'first ' if count > 1 else ''}{first})"
    if len(reasons) > SHOWN:
        yield f"{sum(count for _, count in reasons[SHOWN:]):,} for other reasons; --json lists all"


def _by_reason(rows: Sequence[SetAside]) -> Counter[str]:
    """Rows by the first of their reasons."""
    return Counter(row.reasons[0] for row in rows)
