"""What a corpus cost: tokens read and written, seconds, and what was accepted, for each form."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlx_suite.synthesize.completions import Completion


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Costs and results of one form."""

    completions: int = 0
    read: int = 0
    """Tokens of prompts, the examples in them included."""
    written: int = 0
    """Sampled tokens."""
    seconds: float = 0.0
    accepted: int = 0
    """Pairs or rewrites."""
    barren: int = 0
    """Completions from which nothing was accepted."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Rejected pairs and rewrites, by reason."""

    @property
    def tokens_per_accepted(self) -> float | None:
        """Tokens written for an accepted pair or rewrite; None if there are none."""
        return self.written / self.accepted if self.accepted else None

    @property
    def seconds_per_accepted(self) -> float | None:
        return self.seconds / self.accepted if self.accepted else None

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            completions=self.completions + other.completions,
            read=self.read + other.read,
            written=self.written + other.written,
            seconds=self.seconds + other.seconds,
            accepted=self.accepted + other.accepted,
            barren=self.barren + other.barren,
            dropped=self.dropped + other.dropped,
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "completions": self.completions,
            "tokens_read": self.read,
            "tokens_written": self.written,
            "seconds": round(self.seconds, 1),
            "accepted": self.accepted,
            "nothing_accepted": self.barren,
            "tokens_per_accepted": _rounded(self.tokens_per_accepted, 1),
            "seconds_per_accepted": _rounded(self.seconds_per_accepted, 4),
            "dropped": dict(self.dropped.most_common()),
        }


class Ledger:
    """Costs by form."""

    def __init__(self) -> None:
        self.forms: dict[str, Cost] = {}

    def add(self, completion: Completion, accepted: int, dropped: Mapping[str, int]) -> None:
        """Enter a completion and what was accepted of it."""
        cost = Cost(
            completions=1,
            read=completion.read,
            written=completion.written,
            seconds=completion.seconds,
            accepted=accepted,
            barren=int(not accepted),
            dropped=Counter(dropped),
        )
        self.forms[completion.form] = self.forms.get(completion.form, Cost()) + cost

    @property
    def total(self) -> Cost:
        return sum(self.forms.values(), Cost())


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
