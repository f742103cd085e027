"""Timed rows, duplicates and synthetic texts of the benchmark. Speed is not tested."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlx_suite_apps.bench.duplicates import BenchStage, DuplicateCost, directions, instructions, measure_stages
from tests.apps.bench.indices import every, halfway


@pytest.mark.parametrize(
    ("make", "timed", "duplicates"),
    # Rows are 0 1 2 3 0 1 2 3 0 1 2 3.
    [(every, 12, 8), (halfway, 4, 4)],
)
def test_only_timed_rows_count_duplicates(make: Callable[[], BenchStage], timed: int, duplicates: int) -> None:
    [cost] = measure_stages({"count": make}, 12)
    assert (cost.name, cost.rows, cost.timed, cost.duplicates) == ("count", 12, timed, duplicates)
    assert cost.resident_bytes > cost.grown_bytes >= 0


def test_the_ratio_is_our_speed_over_the_baselines() -> None:
    figures: dict[str, Any] = {"rows": 9, "timed": 9, "duplicates": 0, "resident_bytes": 2, "grown_bytes": 1}
    cost = DuplicateCost(name="exact", rows_per_second=60.0, naive_rows=5, naive_rows_per_second=12.0, **figures)
    assert cost.ratio == 5.0


def test_a_fifth_of_the_texts_are_near_duplicates() -> None:
    texts = instructions(2000)
    assert texts == instructions(2000)
    assert 100 < sum(text.startswith("please ") for text in texts) < 300
    assert 35 < np.mean([len(text.split()) for text in texts]) < 48


def test_a_fifth_of_the_vectors_are_close_to_the_previous_one() -> None:
    rows = np.stack(list(directions(500, 32)))
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert 60 < sum(np.vecdot(units[1:], units[:-1]) > 0.9) < 140
