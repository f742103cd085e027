"""Divergences have their closed forms, and gradients that finite differences confirm."""

import math
from collections.abc import Callable

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.training.divergences import (
    Softmax,
    SparseRows,
    forward_kl,
    jensen_shannon,
    reverse_kl,
    sampled_kl,
    top_k_kl,
)

Floats = npt.NDArray[np.float64]
P = [0.5, 0.25, 0.25]
Q = [0.25, 0.25, 0.5]


def softmax(probs: list[float], cut: int = 2) -> Softmax:
    """A distribution, in two slices of the vocabulary."""
    logits = mx.log(mx.array([probs]))
    return Softmax([logits[:, :cut], logits[:, cut:]])


def value(divergence: tuple[mx.array, list[mx.array]]) -> float:
    return float(divergence[0].item())


def test_the_forward_kl_of_a_hand_example() -> None:
    # 0.5 log 2 + 0 + 0.25 log 0.5
    assert value(forward_kl(softmax(Q), softmax(P))) == pytest.approx(0.25 * math.log(2), abs=1e-6)


def test_the_reverse_kl_exchanges_the_two() -> None:
    teacher, student = [0.7, 0.2, 0.1], [0.1, 0.3, 0.6]
    forward = value(forward_kl(softmax(student), softmax(teacher)))
    assert value(reverse_kl(softmax(teacher), softmax(student))) == pytest.approx(forward, abs=1e-6)


def test_the_jensen_shannon_divergence_of_certain_opposites_is_log_2() -> None:
    assert value(jensen_shannon(softmax([1 - 1e-7, 5e-8, 5e-8]), softmax([5e-8, 1 - 1e-7, 5e-8]), 0.5)) == (
        pytest.approx(math.log(2), abs=1e-4)
    )


@pytest.mark.parametrize("beta", [1e-4, 1 - 1e-4])
def test_at_its_ends_the_jensen_shannon_divergence_tends_to_0_and_its_rate_to_a_kl(beta: float) -> None:
    teacher, student = softmax([0.6, 0.3, 0.1]), softmax([0.2, 0.3, 0.5])
    found = value(jensen_shannon(student, teacher, beta))
    kl = forward_kl(student, teacher) if beta < 0.5 else reverse_kl(student, teacher)
    assert found < 1e-3
    assert found / min(beta, 1 - beta) == pytest.approx(value(kl), rel=0.01)


DIVERGENCES: dict[str, Callable[[Softmax, Softmax], tuple[mx.array, list[mx.array]]]] = {
    "forward": forward_kl,
    "reverse": reverse_kl,
    "jsd 0.1": lambda student, teacher: jensen_shannon(student, teacher, 0.1),
    "jsd 0.5": lambda student, teacher: jensen_shannon(student, teacher, 0.5),
    "jsd 0.9": lambda student, teacher: jensen_shannon(student, teacher, 0.9),
    "top 2": lambda student, teacher: top_k_kl(student, top(mx.concatenate(teacher.probs, axis=1), 2)),
}


def top(probs: mx.array, count: int) -> SparseRows:
    ids = mx.argsort(-probs, axis=-1)[:, :count]
    return SparseRows(ids=ids, values=mx.take_along_axis(probs, ids, axis=-1))


def log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max()
    found: Floats = shifted - np.log(np.exp(shifted).sum())
    return found


def in_float64(name: str, student: Floats, teacher: Floats) -> float:
    """The divergence of two rows of logits."""
    log_p, log_q = log_softmax(teacher), log_softmax(student)
    p, q = np.exp(log_p), np.exp(log_q)
    if name == "forward":
        return float((p * (log_p - log_q)).sum())
    if name == "reverse":
        return float((q * (log_q - log_p)).sum())
    if name == "top 2":
        kept = np.argsort(-p)[:2]
        rest = 1 - p[kept].sum()
        return float((p[kept] * (log_p - log_q)[kept]).sum() + rest * np.log(rest / (1 - q[kept].sum())))
    beta = float(name.split()[1])
    log_m = np.log(beta * p + (1 - beta) * q)
    return float(beta * (p * (log_p - log_m)).sum() + (1 - beta) * (q * (log_q - log_m)).sum())


@pytest.mark.parametrize("name", DIVERGENCES)
def test_values_and_gradients_are_those_of_finite_differences(name: str) -> None:
    random = np.random.default_rng(3)
    student, teacher = 2 * random.normal(size=(2, 7)), 2 * random.normal(size=(2, 7))
    found, slopes = DIVERGENCES[name](
        *(Softmax([mx.array(each[:, :4]), mx.array(each[:, 4:])]) for each in (student, teacher))
    )
    for row in range(2):
        assert float(found[row].item()) == pytest.approx(in_float64(name, student[row], teacher[row]), abs=2e-6)
        for token in range(7):
            step = np.zeros(7)
            step[token] = 1e-5
            ends = [in_float64(name, student[row] + sign * step, teacher[row]) for sign in (1, -1)]
            expected = (ends[0] - ends[1]) / 2e-5
            slope = mx.concatenate(slopes, axis=1)[row, token]
            assert float(slope.item()) == pytest.approx(expected, abs=1e-5)


ROWS = st.lists(st.floats(-8, 8), min_size=4, max_size=4)


@given(student=ROWS, teacher=ROWS, name=st.sampled_from(sorted(DIVERGENCES)))
def test_a_divergence_is_not_negative_its_gradient_sums_to_0_and_both_vanish_for_equals(
    student: list[float], teacher: list[float], name: str
) -> None:
    one, other = (Softmax([mx.array([each])]) for each in (student, teacher))
    found, [slope] = DIVERGENCES[name](one, other)
    assert float(found.item()) >= -1e-5
    assert abs(float(slope.sum().item())) < 1e-5
    same, [flat] = DIVERGENCES[name](one, one)
    assert abs(float(same.item())) < 1e-5
    assert mx.abs(flat).max().item() < 1e-5


def test_logits_far_apart_stay_finite() -> None:
    """Probabilities that underflow on both sides count as 0, not as NaN."""
    student, teacher = Softmax([mx.array([[0.0, -300.0, -900.0]])]), Softmax([mx.array([[-900.0, -300.0, 0.0]])])
    for name in ("forward", "reverse", "jsd 0.5"):
        found, [slope] = DIVERGENCES[name](student, teacher)
        assert mx.isfinite(found).all().item(), name
        assert mx.isfinite(slope).all().item(), name
    assert value(forward_kl(student, teacher)) == pytest.approx(900.0)


# ---- draws


def test_draws_that_match_the_probabilities_give_the_exact_kl() -> None:
    draws = SparseRows(ids=mx.array([[0, 0, 1, 2]]), values=mx.full((1, 4), 0.25))
    entropy = mx.array([1.5 * math.log(2)])
    found, slopes = sampled_kl(softmax(Q), draws, entropy)
    assert float(found.item()) == pytest.approx(0.25 * math.log(2), abs=1e-6)
    expected = forward_kl(softmax(Q), softmax(P))[1]
    for slope, exact in zip(slopes, expected, strict=True):
        assert mx.abs(slope - exact).max().item() < 1e-6


def test_a_token_drawn_twice_has_the_sum_of_its_weights() -> None:
    rows = SparseRows(ids=mx.array([[4, 1, 4]]), values=mx.array([[0.5, 0.25, 0.125]]))
    [first, second] = rows.dense([3, 2])
    assert first.tolist() == [[0.0, 0.25, 0.0]]
    assert second.tolist() == [[0.0, 0.625]]


def test_all_tokens_as_the_top_give_the_exact_kl() -> None:
    probs = mx.array([P])
    found, _ = top_k_kl(softmax(Q), top(probs, 3))
    assert float(found.item()) == pytest.approx(0.25 * math.log(2), abs=1e-5)
