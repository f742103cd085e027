"""Coefficients of merge methods, from the inner products of the models' vectors."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.transfer.merge.combinations import ema, karcher, linear, liti, model_stock, slerp, task, warp

Array = npt.NDArray[np.float64]


def gram_of(*vectors: list[float]) -> Array:
    stacked = np.array(vectors, np.float64)
    return stacked @ stacked.T


def combined(coefficients: Array, *vectors: list[float]) -> list[float]:
    result: list[float] = (coefficients @ np.array(vectors, np.float64)).tolist()
    return result


X, Y = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]


def test_linear_divides_by_the_sum_of_the_weights_unless_told_not_to() -> None:
    assert linear([3, 1]).tolist() == [0.75, 0.25]
    assert linear([3, 1], normalize=False).tolist() == [3.0, 1.0]


def test_task_arithmetic_scales_every_weight() -> None:
    assert task([1.0, 0.5], 0.4).tolist() == [0.4, 0.2]


def test_slerp_follows_the_circle_between_two_directions() -> None:
    halfway = combined(slerp(gram_of(X, Y), 0.5), X, Y)
    assert halfway == pytest.approx([math.sqrt(0.5), math.sqrt(0.5), 0.0])
    third = combined(slerp(gram_of(X, Y), 1 / 3), X, Y)
    assert third == pytest.approx([math.cos(math.pi / 6), math.sin(math.pi / 6), 0.0])


def test_slerp_ends_at_its_models() -> None:
    long = [0.0, 5.0, 0.0]
    assert combined(slerp(gram_of(X, long), 0.0), X, long) == pytest.approx(X)
    assert combined(slerp(gram_of(X, long), 1.0), X, long) == pytest.approx(long)


def test_slerp_keeps_a_common_length_and_mixes_different_ones() -> None:
    """Only the angle is of the directions: lengths 1 and 5 at a right angle give √(1 + 25) / √2 halfway."""
    long = [0.0, 5.0, 0.0]
    halfway = combined(slerp(gram_of(X, long), 0.5), X, long)
    assert np.linalg.norm(halfway) == pytest.approx(math.sqrt(26) / math.sqrt(2))


@pytest.mark.parametrize("other", [[1.0, 0.02, 0.0], [-1.0, 0.02, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
def test_slerp_is_linear_for_parallel_opposite_and_zero_vectors(other: list[float]) -> None:
    assert slerp(gram_of(X, other), 0.25).tolist() == [0.75, 0.25]


def test_model_stock_of_two_models_at_60_degrees_goes_two_thirds_of_the_way() -> None:
    """t = 2c / (1 + c) with c = 1/2, equation (2) of the paper."""
    other = [0.5, math.sqrt(0.75), 0.0]
    assert model_stock(gram_of(X, other)).tolist() == pytest.approx([1 / 3, 1 / 3])


def test_model_stock_of_n_models_uses_their_mean_cosine() -> None:
    cosines = np.full((4, 4), 0.2) + 0.8 * np.eye(4)
    ratio = 4 * 0.2 / (1 + 3 * 0.2)
    assert model_stock(cosines).tolist() == pytest.approx([ratio / 4] * 4)


def test_model_stock_of_equal_models_is_their_average_and_of_unrelated_ones_the_base() -> None:
    assert model_stock(gram_of(X, X)).tolist() == pytest.approx([0.5, 0.5])
    assert model_stock(gram_of(X, Y)).tolist() == [0.0, 0.0]
    assert model_stock(gram_of(X, [-1.0, 0.0, 0.0])).tolist() == [0.0, 0.0]
    assert model_stock(np.zeros((3, 3))).tolist() == [0.0, 0.0, 0.0]


def test_the_karcher_mean_of_two_is_slerp_halfway() -> None:
    assert karcher(gram_of(X, Y), [1, 1]).tolist() == pytest.approx(slerp(gram_of(X, Y), 0.5).tolist())


def test_the_karcher_mean_of_two_with_weights_is_slerp_at_the_second_weight() -> None:
    assert karcher(gram_of(X, Y), [3, 1]).tolist() == pytest.approx(slerp(gram_of(X, Y), 0.25).tolist())


def test_the_karcher_mean_of_three_axes_is_their_diagonal_with_the_mean_length() -> None:
    z = [0.0, 0.0, 4.0]
    mean = combined(karcher(gram_of(X, Y, z), [1, 1, 1]), X, Y, z)
    assert mean == pytest.approx([2 / math.sqrt(3)] * 3)


def test_the_karcher_mean_balances_the_tangents() -> None:
    """It is no normalised average: for unequal angles the two differ."""
    vectors = [X, Y, [0.6, 0.8, 0.0]]
    mean = np.array(combined(karcher(gram_of(*vectors), [1, 1, 1]), *vectors))
    angles = [math.atan2(vector[1], vector[0]) for vector in vectors]
    assert math.atan2(mean[1], mean[0]) == pytest.approx(sum(angles) / 3)


def test_the_karcher_mean_skips_zero_vectors_but_counts_their_length() -> None:
    zero = [0.0, 0.0, 0.0]
    assert combined(karcher(gram_of(X, zero), [1, 1]), X, zero) == pytest.approx([0.5, 0.0, 0.0])
    assert karcher(gram_of(zero, zero), [1, 1]).tolist() == [0.0, 0.0]


def test_the_karcher_mean_of_opposite_vectors_is_one_of_the_many() -> None:
    opposite = [-1.0, 0.0, 0.0]
    assert np.isfinite(karcher(gram_of(X, opposite), [1, 1])).all()


def test_ema_gives_each_further_checkpoint_its_share() -> None:
    assert ema(3, 0.1).tolist() == pytest.approx([0.81, 0.09, 0.1])
    assert ema(2, 1.0).tolist() == [0.0, 1.0]


def test_liti_goes_a_part_of_the_way() -> None:
    assert liti(0.3).tolist() == [0.3]


def test_warp_interpolates_on_the_sphere_and_returns_towards_the_base() -> None:
    assert warp(gram_of(X, Y), 0.3).tolist() == pytest.approx([0.3 * math.sqrt(0.5)] * 2)
    assert warp(gram_of(X, Y), 1.0, t=0.0).tolist() == pytest.approx([1.0, 0.0])


def test_warp_gives_each_of_many_orthogonal_policies_an_equal_part_of_the_angle() -> None:
    coefficients = warp(np.eye(3), 1.0)
    assert np.linalg.norm(coefficients) == pytest.approx(1.0)
    assert coefficients[2] == pytest.approx(math.sin(math.pi / 6))  # a third of the right angle


@given(st.integers(2, 5), st.integers(0, 1000))
def test_every_mean_of_equal_models_is_that_model(count: int, seed: int) -> None:
    vector = np.random.default_rng(seed).normal(size=6).tolist()
    gram = gram_of(*[vector] * count)
    for coefficients in (linear([1.0] * count), karcher(gram, [1.0] * count), model_stock(gram), warp(gram, 1.0)):
        assert combined(coefficients, *[vector] * count) == pytest.approx(vector)
