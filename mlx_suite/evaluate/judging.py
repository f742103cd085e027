"""Outcome of a comparison judged in both orders.

Judges favour a position (MT-Bench, arXiv 2306.05685, section 3.3), so a text counts as better only if the judge prefers
it both in first and in second position.
"""

from dataclasses import dataclass

FIRST, SECOND, NEITHER = "first", "second", "neither"
"""A verdict: which position the judge preferred."""


@dataclass(frozen=True, kw_only=True)
class BothOrders:
    """The two verdicts on A and B; None for a verdict that could not be obtained or parsed."""

    forward: str | None
    """Verdict with A in first position."""
    backward: str | None
    """Verdict with B in first position."""

    @property
    def outcome(self) -> str:
        """`A`, `B`, `tie`, `inconsistent` (the position decides) or `unread`."""
        if self.forward is None or self.backward is None:
            return "unread"
        verdicts = (self.forward, self.backward)
        if verdicts == (NEITHER, NEITHER):
            return "tie"
        return {(FIRST, SECOND): "A", (SECOND, FIRST): "B"}.get(verdicts, "inconsistent")

    @property
    def first_positions(self) -> int:
        """Number of orders in which the first position was preferred: 0, 1 or 2."""
        return (self.forward, self.backward).count(FIRST)


def verdict_of(log_odds: float | None) -> str | None:
    """Verdict from the log odds of the first position against the second."""
    if log_odds is None:
        return None
    return FIRST if log_odds > 0 else SECOND if log_odds < 0 else NEITHER
