"""Which form of a product is fastest is measured once per machine and remembered."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_suite.runtime import few_rows as module
from mlx_suite.runtime.device import device
from mlx_suite.runtime.few_rows import ROWS, USUAL, FewRows, few_rows, measure


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(module, "own_cache", lambda: tmp_path / "cache")
    few_rows.cache_clear()
    yield tmp_path / "cache"
    few_rows.cache_clear()


@pytest.mark.skipif(device().kind != "cpu", reason="nothing is measured on a GPU")
def test_the_measurement_is_read_by_later_runs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = FewRows(transposed=(2, 8), pads_one=True)
    monkeypatch.setattr(module, "measure", lambda: measured)
    assert few_rows() == measured
    [file] = cache.iterdir()
    few_rows.cache_clear()
    monkeypatch.setattr(module, "measure", lambda: pytest.fail("measured twice"))
    assert few_rows() == measured
    few_rows.cache_clear()
    file.write_text('{"transposed": 3')  # a file that was cut off is measured again
    monkeypatch.setattr(module, "measure", lambda: USUAL)
    assert few_rows() == USUAL


@pytest.mark.skipif(device().kind != "cpu", reason="nothing is measured on a GPU")
def test_another_number_of_threads_is_measured_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure", lambda: USUAL)
    few_rows()
    few_rows.cache_clear()
    monkeypatch.setattr(module, "usable_cores", lambda: 999)
    few_rows()
    assert len(list(cache.iterdir())) == 2


@pytest.mark.skipif(device().kind != "cpu", reason="nothing is measured on a GPU")
def test_a_cache_that_cannot_be_written_is_no_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.joinpath("cache").write_text("a file where the folder should be")
    monkeypatch.setattr(module, "measure", lambda: USUAL)
    assert few_rows() == USUAL


def test_on_a_gpu_every_product_keeps_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpu:
        kind = "metal"

    monkeypatch.setattr(module, "device", Gpu)
    monkeypatch.setattr(module, "measure", lambda: pytest.fail("measured"))
    assert few_rows() == USUAL


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (USUAL, "products as MLX passes them"),
        (FewRows(transposed=(2, 8)), "products transposed for 2 or 8 rows"),
        (FewRows(transposed=ROWS), "products transposed for 2 to 32 rows"),
    ],
)
def test_the_choice_is_told_in_words(choice: FewRows, words: str) -> None:
    assert str(choice) == words


def test_numbers_between_two_measured_ones_count_as_the_smaller() -> None:
    choice = FewRows(transposed=(2, 8, 32))
    assert [rows for rows in range(2, 40) if choice.is_transposed(rows)] == [2, 3, *range(8, 16), 32]


def test_the_measurement_names_measured_numbers_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SQUARE", (8, 8))
    monkeypatch.setattr(module, "_LONG_SHAPE", (16, 8))
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    assert set(measure().transposed) <= set(ROWS)
