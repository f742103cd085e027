"""Quotas of a run: what was wanted, and what became of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.curation.dataset import object_in
from mlx_suite.curation.report.labels import label_of
from mlx_suite.curation.rows import Record
from mlx_suite.data.steering import REST


@dataclass(frozen=True, kw_only=True)
class Quota:
    """One value of which a number of rows was wanted."""

    dimension: str
    value: str
    """`*` for whatever is not named."""
    wanted: int
    met: int
    """Accepted rows of this value."""


def quotas_of(rows: Sequence[Record], manifest: Mapping[str, Any]) -> tuple[Quota, ...]:
    """The rows wanted, as a manifest has them (`"quotas": {"category": {"Math": 60, …}}`), against those there are."""
    found = []
    for dimension in object_in(manifest, "quotas"):
        wanted = object_in(manifest["quotas"], dimension)
        values = [_value(row, dimension) for row in rows]
        for value, number in wanted.items():
            if isinstance(number, int):
                others = sum(each not in wanted for each in values)
                met = values.count(value) + (others if value == REST else 0)
                found.append(Quota(dimension=str(dimension), value=str(value), wanted=number, met=met))
    return tuple(found)


def _value(row: Record, dimension: str) -> str | None:
    """The row's tag; of what is no tag (a topic, a persona), what it was steered to."""
    label = label_of(row, dimension)
    if label is not None:
        return label
    steered = object_in(row, "steer").get(dimension)
    return None if steered is None else str(steered)
