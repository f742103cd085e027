"""Outcomes of two verdicts, one per order: wins, ties and position bias."""

import pytest

from mlx_suite.evaluate.judging import FIRST, NEITHER, SECOND, BothOrders, verdict_of


@pytest.mark.parametrize(
    ("forward", "backward", "outcome", "first_positions"),
    [
        (FIRST, SECOND, "A", 1),
        (SECOND, FIRST, "B", 1),
        (NEITHER, NEITHER, "tie", 0),
        (FIRST, FIRST, "inconsistent", 2),
        (SECOND, SECOND, "inconsistent", 0),
        (FIRST, NEITHER, "inconsistent", 1),
        (None, SECOND, "unread", 0),
        (FIRST, None, "unread", 1),
    ],
)
def test_a_response_wins_only_if_preferred_in_both_positions(
    forward: str | None, backward: str | None, outcome: str, first_positions: int
) -> None:
    both = BothOrders(forward=forward, backward=backward)
    assert (both.outcome, both.first_positions) == (outcome, first_positions)


def test_log_odds_become_a_verdict_and_zero_or_nan_become_neither() -> None:
    assert [verdict_of(odds) for odds in (0.1, -0.1, 0.0, float("nan"), None)] == [
        FIRST,
        SECOND,
        NEITHER,
        NEITHER,
        None,
    ]
