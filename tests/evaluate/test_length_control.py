"""Length control: it removes the effect of a judge's preference for longer responses."""

import numpy as np
import pytest

from mlx_suite.evaluate.pairwise import controlled_interval, controlled_win_rate


def lengths(mean: float, count: int = 400, seed: int = 0) -> np.ndarray:
    """Length differences, A minus B, in characters: mostly positive."""
    return np.random.default_rng(seed).normal(mean, 100.0, count)


def test_a_judge_of_length_alone_gives_a_controlled_rate_of_one_half() -> None:
    difference = lengths(80.0, count=4000)
    wins = (difference > 0).astype(float)
    assert wins.mean() == pytest.approx(0.79, abs=0.02)
    assert controlled_win_rate(wins, difference) == pytest.approx(0.5, abs=0.06)


def test_a_partial_length_bias_is_corrected() -> None:
    difference = lengths(60.0, count=4000)
    chance = 1 / (1 + np.exp(-difference / 60.0))
    wins = (np.random.default_rng(1).random(4000) < chance).astype(float)
    assert wins.mean() > 0.62
    assert controlled_win_rate(wins, difference) == pytest.approx(0.5, abs=0.06)


def test_a_better_model_stays_better_at_equal_length() -> None:
    difference = lengths(0.0)
    wins = (np.random.default_rng(1).random(400) < 0.7).astype(float)
    assert controlled_win_rate(wins, difference) == pytest.approx(wins.mean(), abs=0.02)


def test_without_length_differences_both_rates_are_equal() -> None:
    wins = [1.0, 1.0, 1.0, 0.0] * 50
    assert controlled_win_rate(wins, [0] * 200) == pytest.approx(0.75, abs=5e-3)


def test_swapping_the_sides_gives_one_minus_the_rate() -> None:
    difference = lengths(50.0)
    wins = np.clip(np.round((difference + np.random.default_rng(2).normal(40, 80, 400)) / 100 + 0.5, 1), 0, 1)
    one, other = controlled_win_rate(wins, difference), controlled_win_rate(1 - wins, -difference)
    assert one + other == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("wins", [[1.0] * 10, [0.0] * 10])
def test_winning_every_pair_gives_a_rate_below_1(wins: list[float]) -> None:
    rate = controlled_win_rate(wins, [5, -5] * 5)
    assert abs(rate - wins[0]) == pytest.approx(0.106, abs=0.001)
    assert 0 < rate < 1


def test_the_interval_contains_the_rate_and_depends_on_the_seed() -> None:
    difference = lengths(50.0)
    wins = (difference + np.random.default_rng(3).normal(0, 100, 400) > 0).astype(float)
    low, high = controlled_interval(wins, difference, seed=0) or (1.0, 0.0)
    assert low < controlled_win_rate(wins, difference) < high
    assert high - low < 0.2
    assert controlled_interval(wins, difference, seed=0) == (low, high) != controlled_interval(wins, difference, seed=1)
