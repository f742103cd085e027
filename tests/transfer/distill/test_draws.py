"""Draws have the teacher's probabilities as their mean, and so the gradient of the full distribution; top-K has not."""

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.training.divergences import Softmax, SparseRows, forward_kl, sampled_kl, top_k_kl
from mlx_suite.transfer.distill.draws import SparseRecord, most_probable, systematic_draws

V = 12
TRIALS = 4000


def teacher_probs() -> npt.NDArray[np.float32]:
    """A distribution with a tail: the last eight tokens share 0.2."""
    logits = np.array([2.0, 1.5, 1.0, 0.5, *([-1.0] * 8)])
    probs = np.exp(logits) / np.exp(logits).sum()
    return probs[None].astype(np.float32)


def student() -> Softmax:
    return Softmax([mx.array(np.linspace(-1, 1, V)[None], mx.float32)])


def repeated(count: int, temperature: float = 1.0) -> SparseRecord:
    """TRIALS independent samples of `count` draws."""
    probs = np.broadcast_to(teacher_probs(), (TRIALS, V))
    return systematic_draws(probs, count, np.random.default_rng(1).random(TRIALS), temperature)


def mean_gradient(record: SparseRecord) -> npt.NDArray[np.float32]:
    logits = mx.broadcast_to(student().logits[0], (TRIALS, V))
    draws = SparseRows(ids=mx.array(record.ids), values=mx.array(record.values))
    _, [slope] = sampled_kl(Softmax([logits]), draws, mx.array(record.entropy))
    return np.array(slope.mean(axis=0))


def exact_gradient() -> npt.NDArray[np.float32]:
    _, [slope] = forward_kl(student(), Softmax([mx.log(mx.array(teacher_probs()))]))
    return np.array(slope[0])


@pytest.mark.parametrize(("count", "temperature"), [(1, 1.0), (3, 1.0), (3, 2.0), (3, 0.7)])
def test_the_mean_gradient_of_draws_is_that_of_the_full_distribution(count: int, temperature: float) -> None:
    # The error of a mean of 4000 draws is about 0.5 / √4000 = 0.008.
    error = np.abs(mean_gradient(repeated(count, temperature)) - exact_gradient()).max()
    assert error < 0.03


def test_the_gradient_of_the_most_probable_tokens_is_not() -> None:
    record = most_probable(teacher_probs(), 3)
    _, [slope] = top_k_kl(student(), SparseRows(ids=mx.array(record.ids), values=mx.array(record.values)))
    assert np.abs(np.array(slope[0]) - exact_gradient()).max() > 0.03


def test_without_its_bucket_the_top_would_lose_the_rest() -> None:
    """The tail's gradient sums to what the student has too much there; its shape is not trained."""
    record = most_probable(teacher_probs(), 4)
    _, [slope] = top_k_kl(student(), SparseRows(ids=mx.array(record.ids), values=mx.array(record.values)))
    assert float(slope[0, 4:].sum().item()) == pytest.approx(float(exact_gradient()[4:].sum()), abs=1e-5)


def test_the_mean_estimate_of_the_kl_is_the_kl() -> None:
    record = repeated(3)
    logits = mx.broadcast_to(student().logits[0], (TRIALS, V))
    draws = SparseRows(ids=mx.array(record.ids), values=mx.array(record.values))
    estimates, _ = sampled_kl(Softmax([logits]), draws, mx.array(record.entropy))
    exact, _ = forward_kl(student(), Softmax([mx.log(mx.array(teacher_probs()))]))
    assert float(estimates.mean().item()) == pytest.approx(float(exact.item()), abs=0.02)


@given(
    logits=st.lists(st.floats(-6, 6), min_size=2, max_size=9),
    count=st.integers(1, 12),
    uniform=st.floats(0, 1, exclude_max=True),
)
def test_every_token_is_drawn_as_often_as_its_probability_says_rounded_up_or_down(
    logits: list[float], count: int, uniform: float
) -> None:
    probs = np.exp(np.array([logits]))
    probs /= probs.sum()
    record = systematic_draws(probs.astype(np.float32), count, np.array([uniform]), 1.0)
    found = np.bincount(record.ids[0], minlength=len(logits))
    expected = count * probs[0]
    assert (found >= np.floor(expected - 1e-4)).all() and (found <= np.ceil(expected + 1e-4)).all()
    assert record.values[0] == pytest.approx([1 / count] * count, rel=1e-5)


def test_a_token_of_probability_0_is_never_drawn() -> None:
    probs = np.array([[0.0, 0.5, 0.5, 0.0]], np.float32)
    for uniform in (0.0, 0.5, 1 - 1e-12):
        record = systematic_draws(probs, 4, np.array([uniform]), 1.0)
        assert set(record.ids[0].tolist()) == {1, 2}


def test_the_entropy_is_that_of_the_full_distribution() -> None:
    record = most_probable(np.array([[0.5, 0.25, 0.25]], np.float32), 1)
    assert record.entropy.tolist() == pytest.approx([1.5 * np.log(2)])
    assert (record.ids.tolist(), record.values.tolist()) == ([[0]], [[0.5]])
