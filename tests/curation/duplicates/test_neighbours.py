"""Nearest neighbours by cosine similarity: exact, and the same after a restart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.curation.duplicates import neighbours
from mlx_suite.curation.duplicates.neighbours import Neighbours
from mlx_suite.runtime.errors import UserError


def vectors(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal((rows, dim))


def test_the_nearest_is_found_by_direction_not_length() -> None:
    index = Neighbours(3)
    assert index.nearest(np.array([1.0, 0, 0])) is None
    index.add(10, np.array([5.0, 0, 0]))
    index.add(20, np.array([0, 3.0, 4.0]))
    assert index.nearest(np.array([0, 0, 2.0])) == (20, pytest.approx(0.8, abs=1e-3))
    assert index.nearest(np.array([-1.0, 0, 0])) == (20, 0.0)


def test_the_first_of_equals_is_found() -> None:
    index = Neighbours(2)
    for key in (5, 3):
        index.add(key, np.array([1.0, 1.0]))
    assert index.nearest(np.array([1.0, 1.0]))[0] == 5  # type: ignore[index]


@given(st.integers(1, 40), st.integers(0, 1000))
def test_the_search_is_exact(rows: int, seed: int) -> None:
    given_rows = vectors(rows, 8, seed)
    index = Neighbours(8)
    for key, row in enumerate(given_rows):
        index.add(key, row)
    query = vectors(1, 8, seed + 1)[0]
    cosines = given_rows @ query / np.linalg.norm(given_rows, axis=1) / np.linalg.norm(query)
    key, cosine = index.nearest(query)  # type: ignore[misc]
    assert cosine == pytest.approx(cosines.max(), abs=2e-3)
    assert cosines[key] == pytest.approx(cosines.max(), abs=2e-3)


@pytest.mark.parametrize("dim", [16, 700])
def test_rows_restored_from_the_file_are_found_as_before(dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    rows = vectors(20, dim)
    index = Neighbours(dim)
    for key, row in enumerate(rows[:10]):
        index.add(key, row)
    restored = Neighbours(dim)
    restored.restore(range(10), index.matrix)
    for key, row in enumerate(rows[10:], start=10):
        assert restored.nearest(row) == index.nearest(row)
        restored.add(key, row)
        index.add(key, row)
    assert (restored.matrix == index.matrix).all()
    assert index.matrix.shape == (20, min(dim, 256))
    assert index.matrix.dtype == np.float16
    assert len(restored) == 20


def test_a_projection_preserves_cosines() -> None:
    one, noise = vectors(2, 2048)
    other = one + 0.5 * noise
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    index = Neighbours(2048)
    index.add(0, one)
    assert index.nearest(other) == (0, pytest.approx(cosine, abs=4 * (1 - cosine**2) / 16))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_zero_nan_and_inf_are_refused(value: float) -> None:
    with pytest.raises(UserError, match="zero or contains NaN"):
        Neighbours(4).add(0, np.full(4, value))
