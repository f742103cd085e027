"""Cross-entropy compared with a numpy implementation in double precision."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.training.loss import token_losses

B, L, V = 3, 5, 17


def mean_loss(logits: mx.array, targets: mx.array, weights: mx.array) -> mx.array:
    """Weighted mean over the targets; `weights` (B, L) must not all be 0."""
    return (token_losses(logits, targets) * weights).sum() / weights.sum()


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits (B, L, V), targets (B, L), loss mask (B, L)."""
    random = np.random.default_rng(0)
    trained = random.random((B, L)) < 0.6
    trained[1] = False
    return 6 * random.normal(size=(B, L, V)), random.integers(0, V, (B, L)), trained


def log_probs(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def expected_losses(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return -np.take_along_axis(log_probs(logits), targets[..., None], axis=-1)[..., 0]


def expected_gradient(logits: np.ndarray, targets: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """(softmax − one-hot) / target tokens; 0 at masked positions."""
    return (np.exp(log_probs(logits)) - np.eye(V)[targets]) * (trained / trained.sum())[..., None]


def test_a_certain_token_has_loss_0_and_uniform_logits_over_4_have_loss_ln_4() -> None:
    logits = mx.array([[[0.0, 0.0, 0.0, 0.0], [40.0, 0.0, 0.0, 0.0], [0.0, 40.0, 0.0, 0.0]]])
    losses: Any = token_losses(logits, mx.array([[2, 0, 0]])).tolist()
    assert losses[0] == pytest.approx([1.386294, 0.0, 40.0], abs=1e-5)


def test_the_loss_of_each_token_matches_numpy(case: tuple[np.ndarray, ...]) -> None:
    logits, targets, _ = case
    losses = np.array(token_losses(mx.array(logits.astype(np.float32)), mx.array(targets)))
    assert losses.shape == (B, L)
    assert np.abs(losses - expected_losses(logits, targets)).max() < 1e-5


def test_the_mean_is_over_unmasked_positions_only(case: tuple[np.ndarray, ...]) -> None:
    logits, targets, trained = case
    loss = mean_loss(mx.array(logits.astype(np.float32)), mx.array(targets), mx.array(trained))
    assert loss.item() == pytest.approx(expected_losses(logits, targets)[trained].mean(), abs=1e-5)


def test_the_content_of_masked_positions_does_not_matter(case: tuple[np.ndarray, ...]) -> None:
    logits, targets, trained = case
    other, wrong = logits.copy(), targets.copy()
    other[~trained] += 5 * np.arange(V)
    wrong[~trained] = 3
    losses = [
        mean_loss(mx.array(each.astype(np.float32)), mx.array(aims), mx.array(trained)).item()
        for each, aims in ((logits, targets), (other, wrong))
    ]
    assert losses[0] == losses[1]


def test_the_gradient_matches_numpy_and_is_0_at_masked_positions(case: tuple[np.ndarray, ...]) -> None:
    logits, targets, trained = case
    gradient = np.array(mx.grad(mean_loss)(mx.array(logits.astype(np.float32)), mx.array(targets), mx.array(trained)))
    assert np.abs(gradient - expected_gradient(logits, targets, trained)).max() < 1e-6
    assert (gradient[~trained] == 0).all()


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_large_logits_have_a_finite_loss_and_gradient(scale: float) -> None:
    logits = mx.array([[[scale, -scale, 0.0]]])
    loss, gradient = mx.value_and_grad(mean_loss)(logits, mx.array([[1]]), mx.array([[True]]))
    expected = expected_losses(np.array([[[scale, -scale, 0.0]]]), np.array([[1]]))
    assert loss.item() == pytest.approx(float(expected[0, 0]), rel=1e-5)
    assert np.isfinite(np.array(gradient)).all()


def test_half_precision_logits_are_summed_in_fp32() -> None:
    logits = mx.zeros((1, 1, 2048), mx.bfloat16)
    loss = mean_loss(logits, mx.array([[5]]), mx.array([[True]]))
    assert loss.dtype == mx.float32
    assert loss.item() == pytest.approx(7.624619, abs=1e-5)  # ln 2048; bf16 would give 7.625
