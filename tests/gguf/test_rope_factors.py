"""Llama 3.1's RoPE scaling is recovered from the divisors that a GGUF file holds."""

from typing import Any

import numpy as np
import pytest

from mlx_suite.gguf.rope_factors import llama3_scaling
from mlx_suite.modeling.rope import inverse_frequencies
from mlx_suite.modeling.rope_settings import RopeSettings


def divisors(theta: float, head_dim: int, **settings: Any) -> np.ndarray:
    plain = inverse_frequencies(RopeSettings(theta=theta), head_dim)
    scaled = inverse_frequencies(RopeSettings(theta=theta, kind="llama3", **settings), head_dim)
    return (np.array(plain) / np.array(scaled)).astype(np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_published_settings_of_llama_3_1_and_3_2_come_back(factor: float) -> None:
    settings = {
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    found = llama3_scaling(divisors(500000.0, 128, **settings), 500000.0, 128)
    assert found == {"rope_type": "llama3", **settings}


@pytest.mark.parametrize(("low", "high", "original"), [(1.0, 8.0, 1000), (2.0, 5.0, 3000), (0.5, 3.0, 64)])
def test_other_settings_come_back_as_ones_with_the_same_frequencies(low: float, high: float, original: int) -> None:
    """Low, high and the original context can all be scaled: the one with low = 1 is chosen."""
    settings = {"low_freq_factor": low, "high_freq_factor": high, "original_max_position_embeddings": original}
    theirs = divisors(10000.0, 64, factor=4.0, **settings)
    found = llama3_scaling(theirs, 10000.0, 64)
    assert found is not None and found.pop("rope_type") == "llama3"
    assert (found["factor"], found["low_freq_factor"]) == (4.0, 1.0)
    assert found["high_freq_factor"] == pytest.approx(high / low, rel=1e-2)
    assert np.abs(divisors(10000.0, 64, **found) / theirs - 1).max() < 1e-4


def test_divisors_without_an_effect_and_equal_ones_are_plain_and_linear_rope() -> None:
    assert llama3_scaling(np.ones(32), 10000.0, 64) == {"rope_type": "default"}
    assert llama3_scaling(np.full(32, 4.0), 10000.0, 64) == {"rope_type": "linear", "factor": 4.0}


def test_any_other_divisors_are_refused() -> None:
    assert llama3_scaling(1 + np.arange(32) % 3, 10000.0, 64) is None
    assert llama3_scaling(np.ones(16), 10000.0, 64) is None
    assert llama3_scaling(np.full(32, np.nan), 10000.0, 64) is None
