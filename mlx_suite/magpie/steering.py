"""Quotas and steering: what the dataset should consist of, and what each row is prompted for to get there.

A quota is written as shares of the rows along one dimension (`--quota`):

    category:Math=0.3,Reasoning=0.3       the remaining 0.4 may be anything else
    language:English=1                    all rows
    topic:boats=60,birds=40               numbers of rows
    category:Math=0.5,*=0.5               `*` is everything not named

Numbers up to 1 are shares, larger ones are rows. A row for which its quota is already full is rejected, so the
accepted rows meet the quotas exactly.

Steering prompts the model for what is still missing, by a sentence in the header (`data.steering`). A value is drawn
with a probability proportional to its missing rows times the rows that one accepted row of it has cost so far; rows
in flight count as the accepted rows they are expected to become. The draw depends only on the settings, the row's
number, and the decisions on rows at least `LOOKAHEAD` before it, never on what happened to finish first. So a resumed
run, or one with another batch size, steers every row the same way.
"""

import difflib
import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mlx_suite.data.steering import REST
from mlx_suite.runtime.errors import UserError

DIMENSIONS = ("category", "difficulty", "language", "topic", "persona")
"""Dimensions that can have a quota."""
LOOKAHEAD = 128
"""Rows that may start before the first of them is decided: a few batches, so that no slot waits for the longest
response."""
HORIZON = 32
"""Rows by which shares look ahead, so that a value slightly short of its share is not the only one drawn."""
_EPSILON = 1e-6

Steer = tuple[tuple[str, str], ...]
"""(dimension, value) pairs that a row is steered to, in the order of the settings."""


# ---- quotas


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Shares along one dimension, as the user wrote them."""

    dimension: str
    parts: Mapping[str, float]
    """Number by value, in the order written: all shares or all rows."""

    @property
    def in_rows(self) -> bool:
        """Whether the numbers are rows."""
        return any(part > 1 for part in self.parts.values())

    def fractions(self, count: int) -> dict[str, float]:
        """Share of each value, summing to one; the rest comes last, if there is any."""
        total = count if self.in_rows else 1
        exact = {value: part / total for value, part in self.parts.items() if value != REST}
        rest = 1 - sum(exact.values())
        return exact | ({REST: rest} if rest > _EPSILON else {})

    def rows(self, count: int) -> dict[str, int]:
        """Rows of each value, summing to `count`, by the largest-remainder method; ties go to the first."""
        exact = {value: share * count for value, share in self.fractions(count).items()}
        rows = {value: int(each + _EPSILON) for value, each in exact.items()}
        order = sorted(exact, key=lambda value: rows[value] - exact[value])
        for value in order[: count - sum(rows.values())]:
            rows[value] += 1
        return rows

    def problem(self, count: int) -> str | None:
        """Why these shares of `count` rows are impossible; None if they are possible."""
        total = sum(self.parts.values())
        limit, unit = (count, "rows") if self.in_rows else (1, "")
        if total > limit + _EPSILON:
            return f"{self.dimension}: the shares sum to {total:g}, more than {limit:g} {unit}".rstrip()
        if REST in self.parts and total < limit - _EPSILON:
            return f"{self.dimension}: the shares sum to {total:g} with the rest, less than {limit:g} {unit}".rstrip()
        return None


def parse_shares(texts: Sequence[str]) -> tuple[Shares, ...]:
    """Parse the values of `--quota`; a dimension may be spread over several of them.

    Raises UserError listing every part that cannot be parsed.
    """
    found: dict[str, dict[str, float]] = {}
    problems: list[str] = []
    for text in texts:
        dimension, colon, rest = (part.strip() for part in text.partition(":"))
        if not colon or dimension not in DIMENSIONS:
            near = difflib.get_close_matches(dimension, DIMENSIONS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"start with one of {', '.join(DIMENSIONS)} and a colon"
            problems.append(f"{text!r}: {hint}")
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
            problems.append(f"{dimension}: {fraction} is a share and {rows} a number of rows; use one or the other")
    if problems:
        raise UserError(
            "The quotas cannot be parsed",
            where="--quota",
            fix="write DIMENSION:VALUE=SHARE,VALUE=SHARE: --quota category:Math=0.3,Reasoning=0.3",
            details=problems,
        )
    return tuple(Shares(dimension=dimension, parts=parts) for dimension, parts in found.items())


def equal_shares(dimension: str, values: Iterable[str], given: Shares | None, count: int) -> Shares:
    """Divide what `given` leaves of `count` rows equally among the values that it does not name."""
    parts = {} if given is None else dict(given.parts)
    others = [value for value in dict.fromkeys(values) if value not in parts]
    total = count if given is not None and given.in_rows else 1
    left = max(0.0, total - sum(parts.values()))
    if others and left > _EPSILON:
        parts |= {value: left / len(others) for value in others}
    return Shares(dimension=dimension, parts=parts)


def _is_share(number: str) -> bool:
    try:
        value = float(number)
    except ValueError:
        return False
    return 0 < value < float("inf") and (value <= 1 or value == int(value))


@dataclass(frozen=True, kw_only=True)
class Quota:
    """Rows needed along one dimension."""

    dimension: str
    rows: Mapping[str, int]
    """Rows by value; `*` for everything not named."""
    shares: Mapping[str, float]
    """Unrounded share by value. Unlike rows, it does not change with the count."""

    def value_of(self, label: str | None) -> str:
        """The value that a row with this label counts for."""
        return label if label is not None and label in self.rows else REST


def make_quotas(shares: Sequence[Shares], count: int) -> tuple[Quota, ...]:
    """Quotas for `count` rows."""
    return tuple(
        Quota(dimension=each.dimension, rows=each.rows(count), shares=each.fractions(count)) for each in shares
    )


@dataclass(kw_only=True)
class Quotas:
    """The quotas of a run and how far each is met."""

    quotas: tuple[Quota, ...]
    accepted: dict[str, Counter[str]] = field(default_factory=dict)
    """Accepted rows by dimension and value."""

    def __post_init__(self) -> None:
        self.accepted = {quota.dimension: Counter() for quota in self.quotas}

    def full(self, labels: Mapping[str, str], dimensions: Sequence[str] | None = None) -> str | None:
        """The first dimension whose quota has no room left for a row; None if all have room.

        Args:
            labels: The row's label by dimension.
            dimensions: Dimensions to check; None for all.
        """
        for quota in self.quotas:
            if dimensions is not None and quota.dimension not in dimensions:
                continue
            value = quota.value_of(labels.get(quota.dimension))
            if self.accepted[quota.dimension][value] >= quota.rows.get(value, 0):
                return quota.dimension
        return None

    def add(self, labels: Mapping[str, str]) -> None:
        """Count an accepted row."""
        for quota in self.quotas:
            self.accepted[quota.dimension][quota.value_of(labels.get(quota.dimension))] += 1

    def missing(self) -> dict[str, dict[str, int]]:
        """Rows still missing, by dimension and value; full values are left out."""
        return {
            quota.dimension: {
                value: rows - self.accepted[quota.dimension][value]
                for value, rows in quota.rows.items()
                if rows > self.accepted[quota.dimension][value]
            }
            for quota in self.quotas
        }


# ---- steering


@dataclass(kw_only=True)
class SteeredDimension:
    """Statistics of one dimension, from which the next value to prompt for is drawn."""

    quota: Quota
    count: int
    """Rows of the complete dataset."""
    prompted: Counter[str] = field(default_factory=Counter)
    """Decided rows by the value they were steered to."""
    hits: Counter[str] = field(default_factory=Counter)
    """Accepted rows that have the value they were steered to."""
    accepted: Counter[str] = field(default_factory=Counter)
    """Accepted rows by their value, whatever they were steered to."""

    def cost(self, value: str) -> float:
        """Rows per accepted row of this value, estimated with a prior; between one and two before the first."""
        overall = (sum(self.hits.values()) + 2) / (sum(self.prompted.values()) + 3)
        return (self.prompted[value] + 4) / (self.hits[value] + 4 * overall)

    def weights(self, in_flight: Counter[str]) -> dict[str, float]:
        """Unnormalised probability of each value for the next row."""
        costs = {value: self.cost(value) for value in self.quota.rows}
        expected = {value: self.accepted[value] + in_flight[value] / costs[value] for value in costs}
        ahead = min(self.count, max(sum(self.accepted.values()), sum(expected.values())) + HORIZON)
        unmet = {value: rows for value, rows in self.quota.rows.items() if rows > self.accepted[value]}
        soon = {value: ahead * self.quota.shares[value] for value in unmet}
        for goals in (soon, unmet):
            weights = {value: max(0.0, goal - expected[value]) * costs[value] for value, goal in goals.items()}
            if any(weight > 0 for weight in weights.values()):
                return weights
        # The rows in flight should suffice: prompt for more of the same in case they do not.
        return {value: (rows - self.accepted[value]) * costs[value] for value, rows in unmet.items()}


@dataclass(frozen=True, kw_only=True)
class SteeringOutcome:
    """Outcome of a decided row, from which steering learns."""

    steer: Mapping[str, str]
    labels: Mapping[str, str]
    """The row's actual label by dimension."""
    accepted: bool


class Steering:
    """Assigns each row the values it is steered to, in the order of row numbers."""

    def __init__(self, quotas: tuple[Quota, ...], steered: tuple[str, ...], seed: int, count: int) -> None:
        self.dimensions = {
            quota.dimension: SteeredDimension(quota=quota, count=count)
            for quota in quotas
            if quota.dimension in steered
        }
        self.seed = seed
        self.assigned: list[Steer] = []
        """Steering by row number, for all rows that may start so far."""
        self._outcomes: deque[SteeringOutcome] = deque()
        """Outcomes that are not in the statistics yet."""
        self._counted = 0
        """Rows whose outcomes are in the statistics."""
        self._decided = 0

    def of(self, index: int) -> Steer | None:
        """What row `index` is steered to; None while a decision that it depends on is missing."""
        if not self.dimensions:
            return ()
        while len(self.assigned) <= index:
            if len(self.assigned) - LOOKAHEAD > self._decided:
                return None
            self._assign(len(self.assigned))
        return self.assigned[index]

    def record(self, outcome: SteeringOutcome) -> None:
        """Record the next decision, in the order of the rows."""
        if self.dimensions:
            self._outcomes.append(outcome)
            self._decided += 1

    def _assign(self, index: int) -> None:
        while self._counted < index - LOOKAHEAD:
            self._count(self._outcomes.popleft())
            self._counted += 1
        in_flight = self.assigned[self._counted :]
        steer = []
        for name, dimension in self.dimensions.items():
            weights = dimension.weights(Counter(dict(each)[name] for each in in_flight))
            place = uniform_of(f"steer {name}", self.seed, index) * sum(weights.values())
            steer.append((name, _value_at(weights, place) if weights else REST))
        self.assigned.append(tuple(steer))

    def _count(self, outcome: SteeringOutcome) -> None:
        for name, dimension in self.dimensions.items():
            prompted = outcome.steer.get(name, REST)
            value = dimension.quota.value_of(outcome.labels.get(name))
            dimension.prompted[prompted] += 1
            if outcome.accepted:
                dimension.accepted[value] += 1
                dimension.hits[prompted] += prompted == value


def uniform_of(purpose: str, seed: int, index: int) -> float:
    """A uniform random number in [0, 1) that depends on the arguments alone."""
    digest = hashlib.blake2b(f"{purpose}/{seed}/{index}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def _value_at(weights: Mapping[str, float], place: float) -> str:
    """The value whose interval of the cumulative weights contains `place`."""
    for value, weight in weights.items():
        place -= weight
        if place < 0:
            return value
    return next(value for value in reversed(list(weights)) if weights[value] > 0)
