"""The faster of two BLAS libraries is measured once and remembered."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_suite.runtime import blas_choice as module
from mlx_suite.runtime.blas_choice import BlasChoice, BlasTimes, choose, preferred, remembered, times_here

MKL = BlasTimes(one_row=0.003, eight_rows=0.012, attention=0.0006, long_input=0.16)
OPENBLAS = BlasTimes(one_row=0.004, eight_rows=0.008, attention=0.0001, long_input=0.12)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(module, "own_cache", lambda: tmp_path / "cache")
    yield tmp_path / "cache"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, BlasTimes]:
    """Libraries and their measured times."""
    times = {"MKL": MKL, "OpenBLAS": OPENBLAS}
    monkeypatch.setattr(module, "_measured", times.get)
    return times


def test_without_a_measurement_amd_s_processors_prefer_openblas(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, library in [("AMD EPYC 7B13", "OpenBLAS"), ("Intel(R) Xeon(R)", "MKL"), ("", "MKL")]:
        monkeypatch.setattr(module, "processor_name", lambda name=name: name)
        assert preferred() == library


def test_the_library_with_the_smaller_mean_time_wins_and_is_remembered(
    installed: dict[str, BlasTimes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "processor_name", lambda: "Intel(R) Xeon(R)")
    choice = choose()
    assert choice is not None
    assert (choice.name, choice.other) == ("OpenBLAS", "MKL")
    assert str(choice) == "0.8x at 1 row, 1.5x at 8 rows, 6.0x in attention, 1.3x in long inputs beside MKL"
    assert remembered() == choice
    assert preferred() == "OpenBLAS"
    monkeypatch.setattr(module, "processor_name", lambda: "another Xeon")
    assert preferred() == "MKL"


def test_a_single_library_leaves_nothing_to_choose(installed: dict[str, BlasTimes], cache: Path) -> None:
    del installed["OpenBLAS"]
    assert choose() is None
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["{", '{"name": "MKL"}', '{"name": "ATLAS", "other": "MKL", "ratios": {}}', "[]"])
def test_a_damaged_memory_counts_as_none(damage: str, installed: dict[str, BlasTimes], cache: Path) -> None:
    choose()
    [file] = cache.iterdir()
    file.write_text(damage)
    assert remembered() is None


def test_a_memory_of_an_unknown_library_counts_as_none(installed: dict[str, BlasTimes], cache: Path) -> None:
    choose()
    [file] = cache.iterdir()
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"name": "ATLAS"}))
    assert remembered() is None


def test_a_cache_that_cannot_be_written_is_no_error(installed: dict[str, BlasTimes], cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert isinstance(choose(), BlasChoice)


def test_every_product_takes_time_here() -> None:
    assert min(vars(times_here(seconds=0.0)).values()) > 0
