"""Sampling: random numbers, top-p and min-p, against NumPy in fp64."""

from itertools import pairwise
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlx_suite.engine.sampling import _mix, draw, keep_probable, uniform


def drawn(
    logits: Any, uniforms: Any, temperature: Any, top_p: Any = None, min_p: Any = None, top_k: Any = 0
) -> list[int]:
    """`draw` with Python numbers; a scalar applies to every row."""
    rows = len(logits)

    def column(values: Any) -> mx.array:
        return mx.array(np.broadcast_to(np.asarray(values, dtype=np.float32), (rows,)).copy())

    limits = (column(1.0 if top_p is None else top_p), column(min_p or 0.0), column(top_k))
    limited = top_p is not None or min_p is not None or top_k != 0
    tokens: Any = draw(
        mx.array(np.asarray(logits, dtype=np.float32)),
        column(uniforms),
        column(temperature),
        limits if limited else None,
    )
    assert tokens.dtype == mx.uint32
    return list(tokens.tolist())


def kept_by_numpy(logits: np.ndarray, temperature: float, top_p: float, min_p: float) -> np.ndarray:
    """Remaining probabilities in fp64: temperature first, then top-p and min-p, with ties at the threshold kept."""
    scaled = logits.astype(np.float64) / temperature
    probs = np.exp(scaled - scaled.max())
    probs /= probs.sum()
    ranked = np.sort(probs)[::-1]
    count = 1
    # Without top-p every token stays, even if the sum rounds to 1 before it.
    while count < len(ranked) and (top_p >= 1.0 or ranked[:count].sum() < top_p):
        count += 1
    return np.where((probs >= ranked[count - 1]) & (probs >= min_p * probs.max()), probs, 0.0)


# ---- random numbers


def test_the_hash_is_the_published_splitmix64() -> None:
    gamma = 0x9E3779B97F4A7C15
    assert [_mix(1234567), _mix(1234567 + gamma), _mix(1234567 + 2 * gamma)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_random_numbers_never_change() -> None:
    numbers = [uniform(seed, index) for seed, index in ((0, 0), (0, 1), (1, 0), (7, 123), (2**63, 5), (-1, 0))]
    assert [int(number * 2**24) for number in numbers] == [10946269, 2791669, 6177195, 11122390, 4265902, 6144522]


def test_random_numbers_are_at_least_0_and_below_1() -> None:
    numbers = [uniform(seed, index) for seed in range(40) for index in range(100)]
    assert 0.0 <= min(numbers) < 0.001
    assert 0.999 < max(numbers) < 1.0
    assert len(set(numbers)) > 3990


@pytest.mark.parametrize("along", ["seeds", "positions"])
def test_random_numbers_are_uniform_and_uncorrelated(along: str) -> None:
    numbers = [uniform(i, 3) if along == "seeds" else uniform(3, i) for i in range(20_000)]
    counts = np.histogram(numbers, bins=50, range=(0.0, 1.0))[0]
    assert ((counts - 400) ** 2 / 400).sum() < 85  # chi-square of 49 degrees of freedom: exceeded once in a thousand
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.025
    assert all(left != right for left, right in pairwise(numbers))


# ---- drawing


def test_a_random_number_indexes_the_cumulative_distribution() -> None:
    logits = np.log([[0.1, 0.2, 0.3, 0.4]] * 9)
    uniforms = [0.0, 0.05, 0.11, 0.29, 0.31, 0.59, 0.61, 0.9, 1 - 2**-24]
    assert drawn(logits, uniforms, 1.0) == [0, 0, 1, 1, 2, 2, 3, 3, 3]


def test_greedy_rows_take_the_most_probable_token_the_first_among_equals() -> None:
    logits = [[1.0, 3.0, 2.0], [2.0, 1.0, 2.0], [0.0, 0.0, 0.0], [-5.0, -1e4, -4.0]]
    assert drawn(logits, 0.999, 0.0) == [1, 0, 0, 2]


def test_greedy_rows_are_not_affected_by_other_rows() -> None:
    logits = np.random.default_rng(0).normal(size=(6, 50)) * 4
    best = logits.argmax(axis=1).tolist()
    temperature = [0.0, 1.0, 0.0, 2.0, 0.0, 0.3]
    mixed = drawn(logits, [0.5] * 6, temperature, top_p=[1.0, 0.5, 0.1, 0.9, 1.0, 0.3], min_p=[0, 0.5, 0.9, 0, 0, 0])
    assert [mixed[i] for i in (0, 2, 4)] == [best[i] for i in (0, 2, 4)]


def test_a_low_temperature_is_nearly_greedy_and_never_overflows() -> None:
    logits = [[100.0, 90.0, -100.0], [0.0, 1e4, 9e3]]
    for temperature in (1e-6, 1e-3, 0.05):
        assert drawn(logits, 0.99, temperature) == [0, 1]


def test_the_temperature_is_applied_before_top_p() -> None:
    # At temperature 1 the first token alone has 0.6; at 2 it has 0.42, so top-p 0.5 keeps the second one.
    logits = np.log([[0.6, 0.3, 0.1]])
    assert drawn(logits, 0.99, 1.0, top_p=0.5) == [0]
    assert drawn(logits, 0.99, 2.0, top_p=0.5) == [1]


def test_the_temperature_is_applied_before_min_p() -> None:
    logits = np.log([[0.6, 0.3, 0.1]])
    assert drawn(logits, 0.99, 1.0, min_p=0.6) == [0]
    assert drawn(logits, 0.99, 2.0, min_p=0.6) == [1]


def test_tokens_as_probable_as_the_last_one_kept_are_kept() -> None:
    probs = mx.array([[0.4, 0.2, 0.2, 0.2]])
    kept = keep_probable(probs, mx.array([0.5]), mx.array([0.0]), mx.array([0]))
    assert kept.tolist() == probs.tolist()
    kept = keep_probable(probs, mx.array([1.0]), mx.array([0.5]), mx.array([0]))
    assert kept.tolist() == probs.tolist()


def test_the_most_probable_token_is_always_kept() -> None:
    probs = mx.array([[0.25, 0.5, 0.25]] * 3)
    kept = keep_probable(probs, mx.array([0.0, 1e-9, 1.0]), mx.array([0.0, 0.0, 1.0]), mx.array([0, 0, 0]))
    assert kept.tolist() == [[0.0, 0.5, 0.0]] * 3


def test_20000_draws_follow_the_distribution() -> None:
    probs = np.array([0.35, 0.25, 0.2, 0.1, 0.06, 0.03, 0.01])
    uniforms = [uniform(i, 0) for i in range(20_000)]
    tokens = drawn(np.tile(np.log(probs), (20_000, 1)), uniforms, 1.0)
    expected = probs * 20_000
    counts = np.bincount(tokens, minlength=7)
    assert ((counts - expected) ** 2 / expected).sum() < 22.5  # 6 degrees of freedom: once in a thousand


def test_20000_limited_draws_follow_the_remaining_distribution() -> None:
    logits = np.log([0.35, 0.25, 0.2, 0.1, 0.06, 0.03, 0.01])
    left = kept_by_numpy(logits, 1.5, 0.85, 0.2)
    assert np.count_nonzero(left) == 5
    tokens = drawn(np.tile(logits, (20_000, 1)), [uniform(i, 1) for i in range(20_000)], 1.5, top_p=0.85, min_p=0.2)
    expected = left[left > 0] / left.sum() * 20_000
    counts = np.bincount(tokens, minlength=7)
    assert counts[left == 0].tolist() == [0, 0]
    assert ((counts[left > 0] - expected) ** 2 / expected).sum() < 18.5  # 4 degrees of freedom: once in a thousand


rows = st.lists(
    st.lists(st.floats(-12, 12, width=32) | st.just(-np.inf), min_size=12, max_size=12).filter(
        lambda row: max(row) > -13
    ),
    min_size=1,
    max_size=6,
)
shares = st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.9, 0.99, 1.0])


@settings(max_examples=150, deadline=None)
@given(rows, st.floats(0, 1 - 2**-24, width=32), st.sampled_from([0.2, 0.7, 1.0, 3.0]), shares, shares)
@example([[0.0, 8.0] + [-np.inf] * 10], 0.0, 0.2, 1.0, 0.0)  # 4e-18 + 1 is 1 in fp64
def test_an_excluded_token_is_never_drawn(
    logits: list[list[float]], number: float, temperature: float, top_p: float, min_p: float
) -> None:
    tokens = drawn(logits, number, temperature, top_p=top_p, min_p=min_p)
    for row, token in zip(logits, tokens, strict=True):
        assert row[token] > -np.inf
        # Tokens within a rounding error of the threshold may be kept or not.
        generous = kept_by_numpy(np.array(row), temperature, min(top_p + 1e-5, 1.0), min_p * (1 - 1e-4))
        probability = np.exp(row[token] / temperature)
        least = min(np.exp(row[i] / temperature) for i in np.flatnonzero(generous))
        assert probability >= least * (1 - 1e-4)


@settings(max_examples=100, deadline=None)
@given(rows, st.floats(0, 1 - 2**-24, width=32), st.sampled_from([0.0, 0.2, 1.0, 3.0]))
def test_a_row_draws_the_same_token_regardless_of_the_limits_of_other_rows(
    logits: list[list[float]], number: float, temperature: float
) -> None:
    alone = drawn(logits, number, temperature)
    together = drawn([*logits, [1.0] * 12], number, temperature, top_p=[1.0] * len(logits) + [0.4], min_p=0.0)
    assert together[:-1] == alone


def test_a_row_keeps_its_long_tail_next_to_a_row_with_top_p() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(8, 4096)) * 6
    for number in (0.0, 0.3, 0.9, 1 - 2**-24):
        alone = drawn(logits, number, 1.0)
        assert drawn(logits, number, 1.0, top_p=[1.0] * 7 + [0.5])[:7] == alone[:7]


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-24])
def test_the_ends_of_the_distribution_are_tokens_with_nonzero_probability(number: float) -> None:
    logits = np.full((3, 1000), -np.inf)
    logits[0, 500] = logits[1, 0] = logits[2, 999] = 3.0
    assert drawn(logits, number, 1.0) == [500, 0, 999]
    logits = np.full((1, 1000), -80.0)
    logits[0, 400:600] = 0.0
    (token,) = drawn(logits, number, 1.0)
    assert 400 <= token < 600
