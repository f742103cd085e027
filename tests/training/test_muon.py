"""Muon's updates have the size of AdamW's, and its weight decay is decoupled."""

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.training.optimizers import OPTIMIZERS


def updated(weight: mx.array, gradient: mx.array, rate: float, decay: float) -> np.ndarray:
    """The weight after one step, as a matrix in a block."""
    optimizer = OPTIMIZERS["muon"](lambda step: mx.array(rate), decay)
    tree = {"q_proj": {"weight": weight}}
    optimizer.init(tree)
    return np.array(optimizer.apply_gradients({"q_proj": {"weight": gradient}}, tree)["q_proj"]["weight"])


@pytest.mark.parametrize("shape", [(32, 32), (96, 24), (24, 96)])
def test_the_root_mean_square_of_an_update_is_a_fifth_of_the_learning_rate(shape: tuple[int, int]) -> None:
    weight = mx.zeros(shape)
    moved = updated(weight, mx.random.normal(shape, key=mx.random.key(0)), rate=0.01, decay=0.0)
    # Newton-Schulz leaves the singular values between 0.7 and 1.2.
    assert np.sqrt((moved**2).mean()) == pytest.approx(0.2 * 0.01, rel=0.3)


def test_without_a_gradient_a_weight_only_decays() -> None:
    weight = mx.random.normal((8, 16), key=mx.random.key(1))
    assert updated(weight, mx.zeros((8, 16)), rate=0.1, decay=0.5) == pytest.approx(0.95 * np.array(weight), rel=1e-6)


def test_the_direction_of_an_update_does_not_depend_on_the_decay() -> None:
    weight, gradient = (mx.random.normal((8, 16), key=mx.random.key(seed)) for seed in (2, 3))
    small = 1e-4 * gradient
    moved = updated(weight, small, rate=0.1, decay=0.5) - 0.95 * np.array(weight)
    assert moved == pytest.approx(updated(weight, small, rate=0.1, decay=0.0) - np.array(weight), abs=1e-6)


def test_the_embedding_is_left_to_adamw() -> None:
    optimizer = OPTIMIZERS["muon"](lambda step: mx.array(0.01), 0.0)
    tree = {"embed_tokens": {"weight": mx.zeros((4, 8))}}
    optimizer.init(tree)
    after = np.array(
        optimizer.apply_gradients({"embed_tokens": {"weight": mx.ones((4, 8))}}, tree)["embed_tokens"]["weight"]
    )
    assert after == pytest.approx(np.full((4, 8), -0.01), rel=1e-4)  # AdamW's first step is one learning rate
