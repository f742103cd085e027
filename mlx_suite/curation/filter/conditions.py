"""Conditions on rows, each one line of text:

    input_quality >= good          on a scale, from its lowest label to its highest
    ifd < 1                        a number
    category in Math, Reasoning    one of several; also `not in`, `=` and `!=`
    answer contains sorry          ignoring case; also `not contains`
    instruction not matches ':$'   a Python regular expression; also `matches`

Values that contain a comma, or begin or end with a space, need quotes.
"""

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any

from mlx_suite.curation.filter.fields import Field, UnknownField, find_field
from mlx_suite.curation.rows import LANGUAGES, Record
from mlx_suite.runtime.errors import UserError

COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
ORDERED = tuple(COMPARE)
EQUAL = ("=", "!=", "in", "not in")
TEXTUAL = ("contains", "not contains", "matches", "not matches")
LONGEST_LABEL = 60
"""Maximum characters of a label. A field with longer values contains text, not labels."""
EXAMPLE = "write FIELD OPERATOR VALUE, for example 'input_quality >= good' or 'category in Math, Reasoning'"

_CONDITION = re.compile(
    r"\s*(?P<field>[^\W\d][\w.-]*)(?:\s*(?P<sign>>=|<=|!=|==|=|>|<)|\s+(?P<word>(?:not\s+)?(?:in|contains|matches)\b))"
    r"\s*(?P<value>.*?)\s*",
    re.DOTALL,
)
_VALUE = re.compile(r"""\s*(?:"(?P<json>(?:[^"\\]|\\.)*)"|'(?P<raw>[^']*)'|(?P<bare>[^,]*?))\s*(?:,|$)""", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A parsed condition."""

    field: str
    operator: str
    """One of ORDERED, EQUAL and TEXTUAL."""
    values: tuple[str, ...]
    """One value, or several for `in` and `not in`."""

    def __str__(self) -> str:
        return f"{self.field} {self.operator} {', '.join(map(_quoted, self.values))}"


@dataclass(frozen=True, kw_only=True)
class RowTest:
    """A condition bound to the field that it tests."""

    condition: Condition
    field: Field
    holds: Callable[[Any], bool | None]
    """Tests a value that is present; None if it cannot be compared."""

    def passes(self, row: Record) -> bool | None:
        """True if the row meets the condition; None if it lacks the field."""
        value = self.field.get(row)
        return None if value is None else self.holds(value)


def parse_condition(text: str) -> Condition:
    """Parse one line. Raises UserError if it is not a condition."""
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise UserError(f"{text!r} is not a condition", where="--where", fix=EXAMPLE)
    operator = " ".join((match["sign"] or match["word"]).split()).replace("==", "=")
    values = _values(match["value"]) if operator in ("in", "not in") else [_unquoted(match["value"])]
    if values is None or not all(values):
        raise UserError(f"{text!r} has no value to compare with", where="--where", fix=EXAMPLE)
    return Condition(field=match["field"], operator=operator, values=tuple(values))


def bind(conditions: Sequence[Condition], rows: Sequence[Record]) -> tuple[RowTest, ...]:
    """Bind conditions to the fields of these rows.

    Raises UserError that lists every field that no row has, with how to add it, and every invalid value, with the
    nearest valid one.
    """
    problems: list[str] = []
    tests = []
    for condition in conditions:
        try:
            field = find_field(condition.field, rows)
            values = [value for value in map(field.get, rows) if value is not None]
            tests.append(RowTest(condition=condition, field=field, holds=_holds(condition, field, values)))
        except UnknownField as error:
            problems.append(str(error))
        except ValueError as error:
            problems += [f"{condition}: {problem}" for problem in error.args]
    if problems:
        raise UserError(
            "The conditions do not fit the rows",
            where="the conditions",
            fix="correct the conditions, or add the missing fields to the rows",
            details=dict.fromkeys(problems),
        )
    return tuple(tests)


def _holds(condition: Condition, field: Field, values: Sequence[Any]) -> Callable[[Any], bool | None]:
    """Make the test of a field's value. Raises ValueError if the condition does not fit the rows' values."""
    if condition.operator in TEXTUAL:
        return _textual(condition, values)
    if all(map(_is_number, values)):
        return _numeric(condition)
    if condition.operator in EQUAL:
        return _labelled(condition, field, values)
    if field.scale:
        return _scaled(condition, field, values)
    raise ValueError(f"the labels of {field.name} have no order; use =, in or contains")


def _numeric(condition: Condition) -> Callable[[Any], bool]:
    numbers = [_number(value) for value in condition.values]
    if None in numbers:
        raise ValueError(f"{condition.field} is a number and {condition.values[numbers.index(None)]!r} is not")
    if condition.operator in EQUAL:
        inside = condition.operator in ("=", "in")
        return lambda value: (value in numbers) is inside
    return lambda value: COMPARE[condition.operator](value, numbers[0])


def _scaled(condition: Condition, field: Field, values: Sequence[Any]) -> Callable[[Any], bool | None]:
    ranks = {label.casefold(): rank for rank, label in enumerate(field.scale)}
    bound = ranks.get(condition.values[0].casefold())
    if bound is None:
        raise ValueError(_unknown_label(condition.values[0], field.scale))
    if not any(str(label).casefold() in ranks for label in values):
        raise ValueError(f"the rows' labels are not on the scale {', '.join(field.scale)}; use = or in")

    def holds(label: Any) -> bool | None:
        rank = ranks.get(str(label).casefold())
        return None if rank is None else COMPARE[condition.operator](rank, bound)

    return holds


def _labelled(condition: Condition, field: Field, values: Sequence[Any]) -> Callable[[Any], bool]:
    known = {str(label).casefold(): str(label) for label in (*field.labels, *values)}
    wanted = condition.values
    if field.name == "language":
        wanted = tuple(LANGUAGES.get(value.casefold(), value) for value in wanted)
    unknown = [value for value in wanted if value.casefold() not in known]
    if unknown:
        raise ValueError(*(_unknown_label(value, tuple(known.values())) for value in unknown))
    labels = {value.casefold() for value in wanted}
    inside = condition.operator in ("=", "in")
    return lambda value: (str(value).casefold() in labels) is inside


def _textual(condition: Condition, values: Sequence[Any]) -> Callable[[Any], bool]:
    [value] = condition.values
    if not any(isinstance(each, str) for each in values):
        raise ValueError(f"{condition.field} is not a text; compare it with < or >=")
    inside = not condition.operator.startswith("not ")
    if condition.operator.endswith("contains"):
        part = value.casefold()
        return lambda text: (part in str(text).casefold()) is inside
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from error
    return lambda text: (pattern.search(str(text)) is not None) is inside


def _unknown_label(value: str, labels: Sequence[str]) -> str:
    if any(len(label) > LONGEST_LABEL for label in labels):
        return f"no row's text is exactly {value!r}; use contains to search for part of a text"
    near = difflib.get_close_matches(value, labels, n=1, cutoff=0.5)
    shown = ", ".join(labels[:15]) + (", …" if len(labels) > 15 else "")
    return f"no label is {value!r}; " + (f"did you mean {near[0]!r}?" if near else f"the labels are {shown}")


def _values(text: str) -> list[str] | None:
    """The values of a list; None if the quotes are wrong."""
    values, at = [], 0
    while True:
        match = _VALUE.match(text, at)
        if match is None:
            return None
        values.append(_value(match))
        if not match[0].endswith(","):
            return values if match.end() == len(text) else None
        at = match.end()


def _unquoted(text: str) -> str:
    """A single value, without its quotes."""
    match = _VALUE.fullmatch(text)
    quoted = match is not None and match["bare"] is None and not match[0].endswith(",")
    return _value(match) if match is not None and quoted else text


def _value(match: re.Match[str]) -> str:
    if match["json"] is not None:
        try:
            return str(json.loads(f'"{match["json"]}"'))
        except ValueError:
            return match["json"]
    return match["raw"] if match["raw"] is not None else match["bare"]


def _quoted(value: str) -> str:
    plain = value == value.strip() and not {",", '"', "'", "\n"} & set(value)
    return value if plain else json.dumps(value, ensure_ascii=False)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
