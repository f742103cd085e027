"""What a row must be like to be kept, as one line of text:

    input_quality >= good          on a scale, from its lowest label to its highest
    ifd < 1                        a number
    category in Math, Reasoning    one of several; also `not in`, `=` and `!=`
    answer contains sorry          in any case; also `not contains`
    instruction not matches ':$'   a regular expression of Python; also `matches`

Values with a comma or spaces at their ends stand in quotes.
"""

import difflib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.curation.filter.fields import Field, find_field
from mlx_suite.curation.rows import Record
from mlx_suite.runtime.errors import UserError

ORDERED = ("<", "<=", ">", ">=")
EQUAL = ("=", "!=", "in", "not in")
TEXTUAL = ("contains", "not contains", "matches", "not matches")
LONGEST_LABEL = 60
"""Characters; a field with longer values holds texts."""
EXAMPLE = "write FIELD OPERATOR VALUE, for example 'input_quality >= good' or 'category in Math, Reasoning'"

_CONDITION = re.compile(
    r"\s*(?P<field>[^\W\d][\w.-]*)(?:\s*(?P<sign>>=|<=|!=|==|=|>|<)|\s+(?P<word>(?:not\s+)?(?:in|contains|matches)\b))"
    r"\s*(?P<value>.*?)\s*",
    re.DOTALL,
)
_VALUE = re.compile(r"""\s*(?:"(?P<json>(?:[^"\\]|\\.)*)"|'(?P<raw>[^']*)'|(?P<bare>[^,]*?))\s*(?:,|$)""", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One line as it was understood."""

    field: str
    operator: str
    """One of ORDERED, EQUAL and TEXTUAL."""
    values: tuple[str, ...]
    """Several for `in` and `not in`, otherwise one."""

    def __str__(self) -> str:
        return f"{self.field} {self.operator} {', '.join(map(_quoted, self.values))}"


@dataclass(frozen=True, kw_only=True)
class RowTest:
    """A condition that knows the rows it is asked of."""

    condition: Condition
    field: Field
    holds: Callable[[Any], bool | None]
    """Of a value that is there; None for one that cannot be compared."""

    def passes(self, row: Record) -> bool | None:
        """None where the row does not have the field."""
        value = self.field.get(row)
        return None if value is None else self.holds(value)


def parse_condition(text: str) -> Condition:
    """Read one line. Raises UserError for one that is no condition."""
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise UserError(f"{text!r} is no condition", where="--where", fix=EXAMPLE)
    operator = " ".join((found["sign"] or found["word"]).split()).replace("==", "=")
    values = _values(found["value"]) if operator in ("in", "not in") else [_unquoted(found["value"])]
    if values is None or not all(values):
        raise UserError(f"{text!r} has no value to compare with", where="--where", fix=EXAMPLE)
    return Condition(field=found["field"], operator=operator, values=tuple(values))


def bind(conditions: Sequence[Condition], rows: Sequence[Record]) -> tuple[RowTest, ...]:
    """The conditions as tests of these rows.

    Raises UserError that lists every field that no row has, with how to make it, and every value that its field
    cannot have, with the nearest that it can.
    """
    problems: list[str] = []
    tests = []
    for condition in conditions:
        field = find_field(condition.field, rows, problems)
        if field is None:
            continue
        holds = _holds(condition, field, rows, problems)
        if holds is not None:
            tests.append(RowTest(condition=condition, field=field, holds=holds))
    if problems:
        raise UserError(
            "The rows cannot be filtered by this",
            where="the conditions",
            fix="mend the conditions, or add what is missing to the rows",
            details=dict.fromkeys(problems),
        )
    return tuple(tests)


def _holds(
    condition: Condition, field: Field, rows: Sequence[Record], problems: list[str]
) -> Callable[[Any], bool | None] | None:
    if condition.operator in TEXTUAL:
        return _textual(condition, field, rows, problems)
    numeric = all(_is_number(value) for value in map(field.get, rows) if value is not None)
    if numeric:
        return _numeric(condition, problems)
    if condition.operator in EQUAL:
        return _labelled(condition, field, rows, problems)
    if field.scale:
        return _scaled(condition, field, rows, problems)
    problems.append(f"{condition}: {field.name} has no order; use =, in or contains")
    return None


def _numeric(condition: Condition, problems: list[str]) -> Callable[[Any], bool] | None:
    numbers = [_number(value) for value in condition.values]
    wrong = [value for value, number in zip(condition.values, numbers, strict=True) if number is None]
    if wrong:
        problems.append(f"{condition}: {condition.field} is a number, and {wrong[0]!r} is none")
        return None
    if condition.operator in ("=", "in"):
        return lambda value: value in numbers
    if condition.operator in ("!=", "not in"):
        return lambda value: value not in numbers
    [bound] = numbers
    return {
        "<": lambda value: value < bound,
        "<=": lambda value: value <= bound,
        ">": lambda value: value > bound,
        ">=": lambda value: value >= bound,
    }[condition.operator]


def _scaled(
    condition: Condition, field: Field, rows: Sequence[Record], problems: list[str]
) -> Callable[[Any], bool | None] | None:
    ranks = {label.casefold(): rank for rank, label in enumerate(field.scale)}
    [value] = condition.values
    if value.casefold() not in ranks:
        problems.append(f"{condition}: {_nearest(value, field.scale)}")
        return None
    if not any(str(label).casefold() in ranks for label in map(field.get, rows)):
        problems.append(
            f"{condition}: the rows' labels are not those of the scale {', '.join(field.scale)}; use = or in"
        )
        return None
    compare = _numeric(
        Condition(field=field.name, operator=condition.operator, values=(str(ranks[value.casefold()]),)), []
    )
    assert compare is not None

    def holds(label: Any) -> bool | None:
        rank = ranks.get(str(label).casefold())
        return None if rank is None else compare(rank)

    return holds


def _labelled(
    condition: Condition, field: Field, rows: Sequence[Record], problems: list[str]
) -> Callable[[Any], bool] | None:
    known = {str(label).casefold(): str(label) for label in field.labels}
    known |= {str(value).casefold(): str(value) for value in map(field.get, rows) if value is not None}
    unknown = [value for value in condition.values if value.casefold() not in known]
    problems += [f"{condition}: {_nearest(value, tuple(known.values()))}" for value in unknown]
    if unknown:
        return None
    wanted = {value.casefold() for value in condition.values}
    inside = condition.operator in ("=", "in")
    return lambda value: (str(value).casefold() in wanted) is inside


def _textual(
    condition: Condition, field: Field, rows: Sequence[Record], problems: list[str]
) -> Callable[[Any], bool] | None:
    [value] = condition.values
    if not any(isinstance(each, str) for each in map(field.get, rows)):
        problems.append(f"{condition}: {field.name} is no text; compare it with < or >=")
        return None
    inside = not condition.operator.startswith("not ")
    if condition.operator.endswith("contains"):
        wanted = value.casefold()
        return lambda text: (wanted in str(text).casefold()) is inside
    try:
        pattern = re.compile(value)
    except re.error as error:
        problems.append(f"{condition}: no regular expression ({error})")
        return None
    return lambda text: (pattern.search(str(text)) is not None) is inside


def _nearest(value: str, labels: Sequence[str]) -> str:
    if any(len(label) > LONGEST_LABEL for label in labels):
        return f"no row says {value!r} and nothing else; `contains` looks for a part of a text"
    near = difflib.get_close_matches(value, labels, n=1, cutoff=0.5)
    shown = ", ".join(labels[:15]) + (", …" if len(labels) > 15 else "")
    return f"there is no {value!r}; " + (f"did you mean {near[0]!r}?" if near else f"there are {shown}")


def _values(text: str) -> list[str] | None:
    """The values of a list; None where a quote is not closed properly."""
    values, at = [], 0
    while True:
        found = _VALUE.match(text, at)
        if found is None:
            return None
        values.append(_value(found))
        if not found[0].endswith(","):
            return values if found.end() == len(text) else None
        at = found.end()


def _unquoted(text: str) -> str:
    """A single value: what stands in quotes, or all of it."""
    found = _VALUE.fullmatch(text)
    quoted = found is not None and found["bare"] is None and not found[0].endswith(",")
    return _value(found) if found is not None and quoted else text


def _value(found: re.Match[str]) -> str:
    if found["json"] is not None:
        try:
            return str(json.loads(f'"{found["json"]}"'))
        except ValueError:
            return found["json"]
    return found["raw"] if found["raw"] is not None else found["bare"]


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
