"""Which form of a product is fastest is measured once per machine and remembered."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.runtime import few_rows as module
from mlx_suite.runtime.device import device
from mlx_suite.runtime.few_rows import ROWS, USUAL, FewRows, Form, few_rows, measure, multiply, slice_of

PLAIN: tuple[Form, ...] = ("plain",) * 6
on_cpu = pytest.mark.skipif(device().kind != "cpu", reason="nothing is measured on a GPU")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(module, "own_cache", lambda: tmp_path / "cache")
    few_rows.cache_clear()
    yield tmp_path / "cache"
    few_rows.cache_clear()


@on_cpu
def test_the_measurement_is_read_by_later_runs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = FewRows(large=("sliced", "transposed", *PLAIN[2:]))
    monkeypatch.setattr(module, "measure", lambda: measured)
    assert few_rows() == measured
    few_rows.cache_clear()
    monkeypatch.setattr(module, "measure", lambda: pytest.fail("measured twice"))
    assert few_rows() == measured


@on_cpu
@pytest.mark.parametrize(
    "damaged",
    [
        '{"small": 3',
        '{"transposed": [2], "pads_one": true}',
        '{"small": ["plain"], "large": ["plain"], "long": ["plain"]}',
        '{"small": ["odd", "plain", "plain", "plain", "plain", "plain"], "large": [], "long": []}',
    ],
)
def test_a_file_that_is_cut_off_or_of_another_version_is_measured_again(
    damaged: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "measure", lambda: USUAL)
    few_rows()
    [file] = cache.iterdir()
    file.write_text(damaged)
    few_rows.cache_clear()
    measured = replace(USUAL, long=("padded", *PLAIN[1:]))
    monkeypatch.setattr(module, "measure", lambda: measured)
    assert few_rows() == measured


@on_cpu
def test_another_number_of_threads_is_measured_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure", lambda: USUAL)
    few_rows()
    few_rows.cache_clear()
    monkeypatch.setattr(module, "usable_cores", lambda: 999)
    few_rows()
    assert len(list(cache.iterdir())) == 2


@on_cpu
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
    ("large", "words"),
    [
        (PLAIN, "products plain"),
        (("sliced",) * 6, "products sliced"),
        (
            ("sliced", "sliced", "plain", "plain", "plain", "transposed"),
            "products sliced for 1 to 2, plain for 4 to 16, transposed for 32 rows",
        ),
    ],
)
def test_the_choice_is_told_in_words(large: tuple[Form, ...], words: str) -> None:
    assert str(FewRows(large=large)) == words


def test_numbers_between_two_measured_ones_count_as_the_smaller() -> None:
    choice = FewRows(large=("padded", "transposed", "plain", "transposed", "plain", "transposed"))
    transposed = [rows for rows in range(1, 40) if choice.form(2048, 2048, rows) == "transposed"]
    assert transposed == [2, 3, *range(8, 16), 32]


def test_small_large_and_long_matrices_have_choices_of_their_own_and_tiny_ones_none() -> None:
    choice = FewRows(small=("sliced", *PLAIN[1:]), large=("transposed", *PLAIN[1:]), long=("padded", *PLAIN[1:]))
    shapes = [(512, 256), (512, 512), (1024, 1024), (32 * 256, 256), (256, 32 * 256)]
    assert [choice.form(*shape, 1) for shape in shapes] == ["plain", "sliced", "transposed", "padded", "transposed"]


def test_slices_divide_the_outputs_and_keep_products_below_a_million() -> None:
    assert slice_of(8192, 2048, 1) == 128  # 262,144 multiplications
    assert slice_of(8192, 2048, 8) == 32
    assert slice_of(8192, 8192, 1) == 64
    assert slice_of(8192, 2048, 64) == 0  # even 8 outputs are too many
    assert slice_of(640, 64, 1) == 128
    assert slice_of(648, 64, 1) == 8
    assert slice_of(650, 64, 1) == 0


@pytest.mark.parametrize("form", ["plain", "transposed", "padded", "sliced"])
@pytest.mark.parametrize("rows", [1, 2, 8, 33])
@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (640, 8), (7, 5)])
def test_every_form_is_the_same_product(form: Form, rows: int, shape: tuple[int, int]) -> None:
    x, weight = (mx.random.normal(size, key=mx.random.key(1)) for size in ((rows, shape[1]), shape))
    found = multiply(x, weight, form)
    assert found.shape == (rows, shape[0])
    np.testing.assert_allclose(found, x @ weight.T, rtol=0, atol=1e-5)


def test_the_measurement_has_a_form_for_every_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHAPES", {"small": (8, 8), "large": (16, 8), "long": (64, 2)})
    monkeypatch.setattr(module, "_WEIGHTS", 128)
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    found = measure()
    assert {len(found.small), len(found.large), len(found.long)} == {len(ROWS)}
