"""Quotas of a run: how many rows of what are wanted, and how many there are.

A row of which there are enough already is rejected, so the rows at the end are exactly those that were wanted. What is
still missing decides what the next rows are steered to (`steer`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mlx_suite.data.steering import REST
from mlx_suite.magpie.shares import Shares


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What is wanted along one dimension."""

    dimension: str
    wanted: Mapping[str, int]
    """Rows by value; `*` for all that is not named."""
    shares: Mapping[str, float]
    """The same as shares of the rows, before they were rounded: they stay as they are when more rows are wanted."""

    def value_of(self, found: str | None) -> str:
        """The value a row counts for."""
        return found if found is not None and found in self.wanted else REST


@dataclass(kw_only=True)
class Quotas:
    """The quotas of a run and what there is of each."""

    quotas: tuple[Quota, ...]
    held: dict[str, Counter[str]] = field(default_factory=dict)
    """Accepted rows by dimension and value."""

    def __post_init__(self) -> None:
        self.held = {quota.dimension: Counter() for quota in self.quotas}

    def full(self, found: Mapping[str, str], dimensions: Sequence[str] | None = None) -> str | None:
        """The first dimension in which there are enough rows like this one; None where it is wanted.

        Args:
            found: What the row is, by dimension.
            dimensions: Those to look at; all of them if None.
        """
        for quota in self.quotas:
            if dimensions is not None and quota.dimension not in dimensions:
                continue
            value = quota.value_of(found.get(quota.dimension))
            if self.held[quota.dimension][value] >= quota.wanted.get(value, 0):
                return quota.dimension
        return None

    def take(self, found: Mapping[str, str]) -> None:
        """Count an accepted row."""
        for quota in self.quotas:
            self.held[quota.dimension][quota.value_of(found.get(quota.dimension))] += 1

    def missing(self) -> dict[str, dict[str, int]]:
        """Rows that are still wanted, by dimension and value; values of which there are enough are left out."""
        return {
            quota.dimension: {
                value: wanted - self.held[quota.dimension][value]
                for value, wanted in quota.wanted.items()
                if wanted > self.held[quota.dimension][value]
            }
            for quota in self.quotas
        }


def make_quotas(shares: Sequence[Shares], count: int) -> tuple[Quota, ...]:
    """The quotas of `count` rows."""
    return tuple(
        Quota(dimension=each.dimension, wanted=each.rows(count), shares=each.fractions(count)) for each in shares
    )
