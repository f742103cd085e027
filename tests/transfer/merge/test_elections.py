"""TIES and DARE on small arrays."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.transfer.merge.elections import DRAWN, drop, elect, magnitude_thresholds, trim


def row(*values: float) -> mx.array:
    return mx.array([values], dtype=mx.float32)


def test_the_elected_sign_is_that_of_the_larger_sum_and_only_its_elements_are_averaged() -> None:
    one, two, three = row(3.0, 1.0, 0.0), row(-1.0, 1.0, 0.0), row(1.0, -5.0, 0.0)
    assert elect([one, two, three], [1, 1, 1]).tolist() == [[2.0, -5.0, 0.0]]


def test_weights_count_in_the_election_and_in_the_mean() -> None:
    assert elect([row(1.0), row(-3.0)], [4.0, 1.0]).tolist() == [[1.0]]
    assert elect([row(1.0), row(4.0)], [2.0, 1.0]).tolist() == [[2.0]]


def test_without_normalization_the_weighted_elements_are_added_up() -> None:
    assert elect([row(1.0), row(4.0), row(-2.0)], [2.0, 1.0, 1.0], normalize=False).tolist() == [[6.0]]


def test_elements_whose_sum_is_zero_elect_no_sign() -> None:
    assert elect([row(1.0), row(-1.0)], [1.0, 1.0]).tolist() == [[0.0]]


def test_a_negative_weight_subtracts_a_task() -> None:
    assert elect([row(2.0)], [-1.0]).tolist() == [[2.0]]
    assert elect([row(2.0)], [-1.0], normalize=False).tolist() == [[-2.0]]


def threshold(values: mx.array, density: float, block: int = 3) -> float:
    flat = values.reshape(-1)
    blocks = [[flat[start : start + block]] for start in range(0, flat.size, block)]
    [found] = magnitude_thresholds(lambda: blocks, flat.size, [density])
    return found


def test_trimming_keeps_the_share_of_elements_that_is_largest() -> None:
    delta = row(0.1, -0.5, 0.2, 0.4, -0.3)
    assert threshold(delta, 0.4) == np.float32(0.4)
    assert trim(delta, threshold(delta, 0.4)).tolist() == [[0.0, -0.5, 0.0, np.float32(0.4), 0.0]]


def test_each_tensor_has_its_own_threshold() -> None:
    blocks = [[row(1.0, 2.0), row(0.1, 0.2)], [row(3.0, 4.0), row(0.3, 0.4)]]
    assert magnitude_thresholds(lambda: blocks, 4, [0.5, 0.25]) == [3.0, np.float32(0.4)]
    assert magnitude_thresholds(lambda: blocks, 4, [1.0, 0.25]) == [0.0, np.float32(0.4)]


def test_trimming_keeps_all_of_equal_magnitude() -> None:
    delta = row(1.0, -1.0, 1.0, 0.5)
    assert trim(delta, threshold(delta, 0.25)).tolist() == [[1.0, -1.0, 1.0, 0.0]]


def test_trimming_keeps_at_least_one_element_and_with_density_1_all() -> None:
    delta = row(0.25, -2.0, 0.5)
    assert threshold(delta, 0.01) == 2.0
    assert threshold(delta, 1.0) == 0.0


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40), st.floats(0.01, 1.0))
def test_the_threshold_is_the_element_of_that_rank(values: list[float], density: float) -> None:
    rank = max(1, int(np.floor(density * len(values) + 1e-9)))
    expected = 0.0 if rank == len(values) else np.sort(np.abs(np.float32(values)))[::-1][rank - 1]
    assert threshold(mx.array(values), density, block=7) == expected


def test_dropping_keeps_about_the_density_and_rescales_the_rest() -> None:
    dropped = drop(mx.ones((100, 100)), 0.25, "0 q_proj 0", 0)
    assert set(np.unique(np.array(dropped))) == {0.0, 4.0}
    assert (dropped > 0).mean().item() == pytest.approx(0.25, abs=0.02)


def test_the_same_elements_are_dropped_in_blocks_of_any_size() -> None:
    columns = DRAWN // 4 + 3
    delta = mx.ones((6, columns))
    whole = drop(delta, 0.5, "key", 0)
    blocks = [drop(delta[first : first + 2], 0.5, "key", first * columns) for first in (0, 2, 4)]
    assert mx.array_equal(whole, mx.concatenate(blocks)).item()


def test_another_key_drops_other_elements_and_density_1_none() -> None:
    delta = mx.ones((8, 8))
    one, other = (drop(delta, 0.5, f"{seed} q_proj 0", 0) for seed in (1, 2))
    assert not mx.array_equal(one, other).item()
    assert mx.array_equal(drop(delta, 1.0, "key", 0), delta).item()
