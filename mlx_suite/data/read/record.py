"""One row of a file, as it was written."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlx_suite.data.read.problems import Problem


@dataclass(frozen=True)
class Record:
    """One row of a file, as it was written."""

    place: str
    """`file:line` of its first line; `file#number` where there are no lines; the file for plain text."""
    value: dict[str, Any] | str
    """Names and values; a string for plain text."""


Found = Iterator[Record | Problem]
"""What readers give: the rows of a file in order, and a Problem for each that cannot be read."""


def record_of(value: Any, place: str) -> Record | Problem:
    """A record if `value` is an object."""
    if isinstance(value, dict):
        return Record(place, value)
    return Problem(place, f'the record is {described(value)}; expected an object, {{"name": value, …}}')


def described(value: Any) -> str:
    """A value of JSON in words, for `expected …, found …`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else f"a value of type {type(value).__name__}"
