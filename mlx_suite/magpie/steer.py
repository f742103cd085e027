"""What each row is steered to, so that the quotas are met with as few rows as can be.

The model is told what to ask by a sentence in the header (`data.steering`). Which one a row gets follows from the
settings, its number, and the decisions about all rows that lie at least `LOOKAHEAD` before it: never from what
happened to be finished. So a run that was killed, or ran with another batch, steers the same rows the same way.

A value is drawn in proportion to the rows that are still wanted of it, over the rows that one accepted one has cost so
far. Rows that are under way count as what they are expected to give.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlx_suite.data.steering import REST
from mlx_suite.magpie.mix import uniform_of
from mlx_suite.magpie.quotas import Quota

LOOKAHEAD = 128
"""Rows that may be begun before the decision about the first of them is known: a few batches, so that slots need not
wait for the longest answer."""
HORIZON = 32
"""Rows by which a share looks ahead: fewer rows than that behind its share, a value is not asked for alone."""

Steer = tuple[tuple[str, str], ...]
"""Dimension and value of each thing a row is steered to, in the order of the settings."""


@dataclass(kw_only=True)
class Aim:
    """How one dimension is steered."""

    quota: Quota
    count: int
    """Rows wanted in all."""
    asked: Counter[str] = field(default_factory=Counter)
    """Decided rows by what they were steered to."""
    hit: Counter[str] = field(default_factory=Counter)
    """Of those, accepted ones that were what they were steered to."""
    held: Counter[str] = field(default_factory=Counter)
    """Accepted rows by what they are, whatever they were steered to."""

    def cost(self, value: str) -> float:
        """Rows asked for one accepted row of this value, as far as is known; between one and two before the first."""
        asked, hit = sum(self.asked.values()), sum(self.hit.values())
        overall = (hit + 2) / (asked + 3)
        return (self.asked[value] + 4) / (self.hit[value] + 4 * overall)

    def weights(self, under_way: Counter[str]) -> dict[str, float]:
        """How much each value wants to be drawn."""
        accepted = sum(self.held.values())
        costs = {value: self.cost(value) for value in self.quota.wanted}
        expected = {value: self.held[value] + under_way[value] / costs[value] for value in costs}
        ahead = min(self.count, max(accepted, sum(expected.values())) + HORIZON)
        open_values = {value: wanted for value, wanted in self.quota.wanted.items() if wanted > self.held[value]}
        soon = {value: ahead * self.quota.shares[value] for value in open_values}
        for goals in (soon, open_values):
            weights = {value: max(0.0, goal - expected[value]) * costs[value] for value, goal in goals.items()}
            if any(weight > 0 for weight in weights.values()):
                return weights
        # All that is wanted is expected of what is under way: more of the same, in case it does not come.
        return {value: (wanted - self.held[value]) * costs[value] for value, wanted in open_values.items()}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a decided row."""

    steer: Mapping[str, str]
    found: Mapping[str, str]
    """What it is, by dimension."""
    accepted: bool


class Steering:
    """Gives rows what they are steered to, in the order of their numbers."""

    def __init__(self, quotas: tuple[Quota, ...], steered: tuple[str, ...], seed: int, count: int) -> None:
        self.aims = {quota.dimension: Aim(quota=quota, count=count) for quota in quotas if quota.dimension in steered}
        self.seed = seed
        self.given: list[Steer] = []
        """By row number: all rows that may be begun so far."""
        self._outcomes: deque[Outcome] = deque()
        """Of decided rows that no row has been steered by."""
        self._counted = 0
        """Rows whose outcomes have gone into the aims."""
        self._decided = 0

    def of(self, index: int) -> Steer | None:
        """What row `index` is steered to; None where a decision it depends on has not been made."""
        if not self.aims:
            return ()
        while len(self.given) <= index:
            if len(self.given) - LOOKAHEAD > self._decided:
                return None
            self._draw(len(self.given))
        return self.given[index]

    def decided(self, outcome: Outcome) -> None:
        """Take note of the next decision, in the order of the rows."""
        if self.aims:
            self._outcomes.append(outcome)
            self._decided += 1

    def _draw(self, index: int) -> None:
        while self._counted < index - LOOKAHEAD:
            self._count(self._outcomes.popleft())
            self._counted += 1
        under_way = self.given[self._counted :]
        steer = []
        for dimension, aim in self.aims.items():
            weights = aim.weights(Counter(dict(each)[dimension] for each in under_way))
            place = uniform_of(f"steer {dimension}", self.seed, index) * sum(weights.values())
            value = _at(weights, place) if weights else REST
            steer.append((dimension, value))
        self.given.append(tuple(steer))

    def _count(self, outcome: Outcome) -> None:
        for dimension, aim in self.aims.items():
            asked, found = outcome.steer.get(dimension, REST), aim.quota.value_of(outcome.found.get(dimension))
            aim.asked[asked] += 1
            if outcome.accepted:
                aim.held[found] += 1
                aim.hit[asked] += asked == found


def _at(weights: Mapping[str, float], place: float) -> str:
    """The value whose stretch of the summed weights holds `place`."""
    values = list(weights)
    for value in values:
        place -= weights[value]
        if place < 0:
            return value
    return next(value for value in reversed(values) if weights[value] > 0)
