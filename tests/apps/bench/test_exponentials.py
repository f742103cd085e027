"""Both sides of every function are timed. Speed is not tested."""

import pytest

from mlx_suite_apps.bench.exponentials import PAIRS, Exponential, time_exponentials


def test_every_function_is_timed_on_both_sides() -> None:
    results = time_exponentials(rows=3, columns=5, rounds=2)
    assert [each.name for each in results] == list(PAIRS) == ["tanh", "sigmoid", "softmax", "logsumexp"]
    assert all(each.ours > 0 and each.builtin > 0 for each in results)


def test_the_ratio_is_mlxs_time_over_ours() -> None:
    assert Exponential(name="tanh", ours=2.0, builtin=5.0).ratio == pytest.approx(2.5)
