"""A parameter of a merge as a function of the tensor: a number, a gradient over the layers, by tensor name.

On the command line a value is a number (`0.3`) or a gradient (`0:0.5:1`: its points are spread evenly from the first
layer to the last, with straight lines between them); `NAME=` before it limits it to tensors with NAME in their name. In
mergekit's YAML, these are a number, a list, and a list of {filter, value}.

Embedding, final norm and head, which belong to no layer, have a gradient's first value, as in mergekit.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
"""Matches the name of a tensor within a layer."""


@dataclass(frozen=True)
class Place:
    """A tensor of the merged model."""

    name: str
    position: float
    """0 for the first layer and what belongs to none, 1 for the last layer."""


@dataclass(frozen=True)
class Rule:
    """A value for the tensors that it applies to."""

    values: tuple[float, ...]
    """One number, or the points of a gradient."""
    filter: str = ""
    """Part of a tensor's name; empty for every tensor."""


@dataclass(frozen=True)
class Schedule:
    """The value of one parameter for every tensor."""

    rules: tuple[Rule, ...]

    def at(self, place: Place) -> float | None:
        """The value of the first rule whose filter is part of the tensor's name; None if no rule applies."""
        rule = next((rule for rule in self.rules if rule.filter in place.name), None)
        return None if rule is None else _interpolated(rule.values, place.position)

    @property
    def numbers(self) -> list[float]:
        """Every number in it."""
        return [value for rule in self.rules for value in rule.values]

    def __str__(self) -> str:
        texts = []
        for rule in self.rules:
            values = ":".join(f"{value:g}" for value in rule.values)
            texts.append(f"{rule.filter}={values}" if rule.filter else values)
        return ", ".join(texts)


Parameters = Mapping[str, Schedule]
"""Schedules by parameter: weight, density, lambda, t, eta, mu."""


def constant(value: float) -> Schedule:
    """The same value for every tensor."""
    return Schedule((Rule((value,)),))


def place_of(name: str, first: int, layers: int) -> Place:
    """The place of a tensor of the merged model.

    Args:
        first: Number of the first layer of its slice.
        layers: Number of layers of its slice.
    """
    match = LAYER.search(name)
    if match is None:
        return Place(name, 0.0)
    return Place(name, (int(match[1]) - first) / (layers - 1) if layers > 1 else 1.0)


def from_flag(text: str) -> tuple[str, list[tuple[float, ...]]]:
    """The filter and the values, one per model, of `NAME=0.2:0.8,0.5`. Raises ValueError."""
    name, equals, values = text.rpartition("=")
    if equals and not name.strip():
        raise ValueError("the name before = is empty")
    return name.strip(), [tuple(_number(point) for point in value.split(":")) for value in values.split(",")]


def from_yaml(value: Any) -> Schedule:
    """A number, a list of numbers (a gradient), or a list of mappings with `filter` and `value`. Raises ValueError."""
    if isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        rules = []
        for each in value:
            if not isinstance(each, Mapping) or "value" not in each or each.keys() - {"filter", "value"}:
                raise ValueError("expected entries with filter and value")
            rules.append(Rule(_points(each["value"]), "" if each.get("filter") in (None, "*") else str(each["filter"])))
        return Schedule(tuple(rules))
    return Schedule((Rule(_points(value)),))


def to_yaml(schedule: Schedule) -> Any:
    """What `from_yaml` reads as this schedule."""
    values = [list(rule.values) if len(rule.values) > 1 else rule.values[0] for rule in schedule.rules]
    if len(values) == 1 and not schedule.rules[0].filter:
        return values[0]
    return [
        {**({"filter": rule.filter} if rule.filter else {}), "value": value}
        for rule, value in zip(schedule.rules, values, strict=True)
    ]


def _points(value: Any) -> tuple[float, ...]:
    points = value if isinstance(value, list) else [value]
    if not points or not all(isinstance(point, int | float) and not isinstance(point, bool) for point in points):
        raise ValueError("expected a number or a list of numbers")
    if not all(math.isfinite(point) for point in points):
        raise ValueError("expected finite numbers")
    return tuple(float(point) for point in points)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("expected a finite number")
    return number


def _interpolated(values: tuple[float, ...], position: float) -> float:
    scaled = position * (len(values) - 1)
    lower = min(int(scaled), len(values) - 1)
    upper = min(lower + 1, len(values) - 1)
    share = scaled - lower
    return (1 - share) * values[lower] + share * values[upper]
