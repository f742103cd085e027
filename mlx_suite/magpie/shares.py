"""Shares of a run by what its rows are: how `--quota` is written, and how many rows each share comes to.

    category:Math=0.3,Reasoning=0.3       the other four tenths may be anything else
    language:English=1                    all of them
    topic:boats=60,birds=40               numbers of rows
    category:Math=0.5,*=0.5               `*` names the rest

Numbers up to 1 are shares of the rows, larger ones are rows.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlx_suite.data.steering import REST
from mlx_suite.runtime.errors import UserError

SHARED = ("category", "difficulty", "language", "topic", "persona")
"""Dimensions of which there can be shares."""
SLACK = 1e-6


@dataclass(frozen=True, kw_only=True)
class Shares:
    """The shares along one dimension."""

    dimension: str
    parts: Mapping[str, float]
    """By value, in the order they were written; all of them shares or all of them rows."""

    @property
    def in_rows(self) -> bool:
        """Whether the numbers are rows."""
        return any(part > 1 for part in self.parts.values())

    def fractions(self, count: int) -> dict[str, float]:
        """The share of each value, one together; the rest last, if there is any."""
        whole = count if self.in_rows else 1
        exact = {value: part / whole for value, part in self.parts.items() if value != REST}
        rest = 1 - sum(exact.values())
        return exact | ({REST: rest} if rest > SLACK else {})

    def rows(self, count: int) -> dict[str, int]:
        """Rows of each value, `count` together, rounded by largest remainder, the first of equal ones first."""
        exact = {value: share * count for value, share in self.fractions(count).items()}
        rows = {value: int(each + SLACK) for value, each in exact.items()}
        order = sorted(exact, key=lambda value: rows[value] - exact[value])
        for value in order[: count - sum(rows.values())]:
            rows[value] += 1
        return rows

    def problem(self, count: int) -> str | None:
        """Why these shares cannot be had of `count` rows."""
        total = sum(self.parts.values())
        limit, unit = (count, "rows") if self.in_rows else (1, "")
        if total > limit + SLACK:
            return f"{self.dimension}: the shares come to {total:g}, more than {limit:g} {unit}".rstrip()
        if REST in self.parts and total < limit - SLACK:
            return f"{self.dimension}: the shares come to {total:g} with the rest, less than {limit:g} {unit}".rstrip()
        return None


def parse_shares(texts: Sequence[str]) -> tuple[Shares, ...]:
    """Read what `--quota` was given, once for each dimension or in several parts.

    Raises UserError that names every part that cannot be read.
    """
    found: dict[str, dict[str, float]] = {}
    problems: list[str] = []
    for text in texts:
        dimension, colon, rest = (part.strip() for part in text.partition(":"))
        if not colon or dimension not in SHARED:
            near = difflib.get_close_matches(dimension, SHARED, n=1)
            wanted = f"did you mean {near[0]}?" if near else f"begin with one of {', '.join(SHARED)} and a colon"
            problems.append(f"{text!r}: {wanted}")
            continue
        parts = found.setdefault(dimension, {})
        for part in filter(str.strip, rest.split(",")):
            value, _, number = (each.strip() for each in part.rpartition("="))
            if not value or value in parts or not _is_share(number):
                problems.append(f"{part.strip()!r} of {dimension}: expected VALUE=SHARE, each value once")
            else:
                parts[value] = float(number)
        if not parts:
            problems.append(f"{text!r} names no value")
    for dimension, parts in found.items():
        fraction = next((f"{value}={part:g}" for value, part in parts.items() if part < 1), None)
        rows = next((f"{value}={part:g}" for value, part in parts.items() if part > 1), None)
        if fraction and rows:
            problems.append(f"{dimension}: {fraction} is a share and {rows} a number of rows; write one or the other")
    if problems:
        raise UserError(
            "The quotas cannot be read",
            where="--quota",
            fix="write DIMENSION:VALUE=SHARE,VALUE=SHARE: --quota category:Math=0.3,Reasoning=0.3",
            details=problems,
        )
    return tuple(Shares(dimension=dimension, parts=parts) for dimension, parts in found.items())


def equal_shares(dimension: str, values: Iterable[str], given: Shares | None, count: int) -> Shares:
    """The same for each value that has no share of its own, of what the `given` shares leave of `count` rows."""
    parts = {} if given is None else dict(given.parts)
    others = [value for value in dict.fromkeys(values) if value not in parts]
    whole = count if given is not None and given.in_rows else 1
    left = max(0.0, whole - sum(parts.values()))
    if others and left > SLACK:
        parts |= {value: left / len(others) for value in others}
    return Shares(dimension=dimension, parts=parts)


def _is_share(number: str) -> bool:
    try:
        value = float(number)
    except ValueError:
        return False
    return 0 < value < float("inf") and (value <= 1 or value == int(value))
