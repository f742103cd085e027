"""Statistics and their intervals, compared with numbers computed by hand."""

import numpy as np
import pytest

from mlx_suite.data.statistics import auc, auc_interval, bootstrap, histogram, mean_of, share_interval


def test_a_mean_has_a_standard_deviation_and_an_interval() -> None:
    found = mean_of([70.0, 80.0, 90.0])
    assert found is not None
    assert (found.mean, found.sd, found.count) == (80.0, 10.0, 3)
    assert found.interval == pytest.approx((80 - 1.959964 * 10 / 3**0.5, 80 + 1.959964 * 10 / 3**0.5))


def test_one_number_has_no_deviation_and_no_numbers_have_no_mean() -> None:
    one = mean_of([5.0])
    assert one is not None
    assert (one.mean, one.sd, one.interval) == (5.0, None, None)
    assert mean_of([]) is None


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    # Wilson score intervals as printed in textbooks.
    [(9, 10, (0.5958, 0.9821)), (0, 10, (0.0, 0.2775)), (10, 10, (0.7225, 1.0)), (50, 100, (0.4038, 0.5962))],
)
def test_the_interval_of_a_share_lies_within_0_and_1(part: int, whole: int, expected: tuple[float, float]) -> None:
    assert share_interval(part, whole) == pytest.approx(expected, abs=1e-4)


def test_a_share_of_nothing_has_no_interval() -> None:
    assert share_interval(0, 0) is None


@pytest.mark.parametrize(
    ("scores", "right", "expected"),
    [
        ([90, 80, 20, 10], [True, True, False, False], 1.0),
        ([10, 20, 80, 90], [True, True, False, False], 0.0),
        ([50, 50, 50], [True, False, False], 0.5),
        ([90, 50, 50, 10], [True, True, False, False], 0.875),
        ([90, 10], [True, True], None),
    ],
)
def test_auc_is_the_share_of_correctly_ordered_pairs(
    scores: list[float], right: list[bool], expected: float | None
) -> None:
    assert auc(scores, right) == expected


def test_the_bootstrap_gives_the_same_interval_for_the_same_seed() -> None:
    numbers = np.arange(100.0)
    first, again, other = (bootstrap(lambda rows: numbers[rows].mean(axis=1), 100, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first is not None
    # ± 1.96 · 29 / √100 around 49.5.
    assert first == pytest.approx((43.8, 55.2), abs=1.0)
    assert bootstrap(lambda rows: numbers[rows].mean(axis=1), 1, 0) is None


def test_a_perfect_judge_has_an_auc_interval_of_width_0() -> None:
    assert auc_interval([90.0] * 20 + [10.0] * 20, [True] * 20 + [False] * 20, seed=0) == (1.0, 1.0)


def test_a_histogram_counts_every_score_once() -> None:
    lines = histogram([0, 5, 10, 99, 100, 100])
    assert [int(line.split()[-1]) for line in lines] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 3]
    assert lines[9] == " 90–100  " + "█" * 20 + " 3"
