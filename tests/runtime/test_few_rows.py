"""Which form of a product is fastest is measured once per machine and shape, and remembered."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.runtime import few_rows as module
from mlx_suite.runtime.device import device
from mlx_suite.runtime.few_rows import (
    USUAL,
    Form,
    Forms,
    block_of,
    in_blocks,
    measure,
    measured,
    multiply,
    multiply_blocks,
    slice_of,
)

PLAIN: tuple[Form, ...] = ("plain",) * 6
FOUND = Forms(by_rows=("sliced", "transposed", *PLAIN[2:]), blocked=8)
on_cpu = pytest.mark.skipif(device().kind != "cpu", reason="nothing is measured on a GPU")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(module, "own_cache", lambda: tmp_path / "cache")
    module._measured.cache_clear()
    yield tmp_path / "cache"
    module._measured.cache_clear()


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The shapes that were measured; all of them come out as `FOUND`."""
    seen: list[tuple[int, int]] = []

    def note(shape: tuple[int, int]) -> Forms:
        seen.append(shape)
        return FOUND

    monkeypatch.setattr(module, "_fastest", note)
    return seen


@on_cpu
def test_what_was_measured_is_read_by_later_runs_and_new_shapes_are_added(
    cache: Path, shapes: list[tuple[int, int]]
) -> None:
    measure([(1024, 512), (512, 512), (1024, 512)])
    module._measured.cache_clear()
    assert measured(1024, 512) == FOUND
    measure([(512, 512), (2048, 512)])
    assert shapes == [(512, 512), (1024, 512), (2048, 512)]
    [file] = cache.iterdir()
    assert set(json.loads(file.read_text())) == {"512x512", "1024x512", "2048x512"}


@on_cpu
def test_a_shape_that_was_never_measured_and_a_small_matrix_stay_plain(shapes: list[tuple[int, int]]) -> None:
    measure([(511, 512)])
    assert shapes == []
    assert measured(511, 512) == measured(1024, 512) == USUAL


@on_cpu
def test_an_lm_head_is_measured_by_a_part_of_it(shapes: list[tuple[int, int]]) -> None:
    measure([(128256, 2048)])
    assert shapes == [(8192, 2048)]
    assert measured(128256, 2048) == measured(256000, 2048) == FOUND


@on_cpu
@pytest.mark.parametrize(
    "damaged",
    [
        '{"1024x512": 3',
        '{"small": ["plain"], "large": ["plain"], "long": ["plain"]}',
        '{"1024x512": {"by_rows": ["odd", "plain", "plain", "plain", "plain", "plain"], "blocked": 0}}',
        '{"1024x512": {"by_rows": ["plain"], "blocked": 0}}',
        "[]",
    ],
)
def test_a_file_that_is_cut_off_or_of_another_version_is_measured_again(
    damaged: str, cache: Path, shapes: list[tuple[int, int]]
) -> None:
    measure([(512, 512)])
    [file] = cache.iterdir()
    file.write_text(damaged)
    module._measured.cache_clear()
    measure([(1024, 512)])
    assert measured(1024, 512) == FOUND
    assert shapes == [(512, 512), (1024, 512)]


@on_cpu
def test_another_number_of_cores_is_measured_anew(
    cache: Path, shapes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure([(1024, 512)])
    module._measured.cache_clear()
    monkeypatch.setattr(module, "usable_cores", lambda: 999)
    measure([(1024, 512)])
    assert shapes == [(1024, 512)] * 2
    assert len(list(cache.iterdir())) == 2


@on_cpu
def test_a_cache_that_cannot_be_written_is_no_error(cache: Path, shapes: list[tuple[int, int]]) -> None:
    cache.write_text("a file where the folder should be")
    measure([(1024, 512)])
    assert measured(1024, 512) == FOUND


def test_on_a_gpu_every_product_keeps_its_form(monkeypatch: pytest.MonkeyPatch, shapes: list[tuple[int, int]]) -> None:
    monkeypatch.setattr(module, "device_kind", lambda: "metal")
    measure([(1024, 512)])
    assert shapes == []
    module._measured()[1024, 512] = FOUND  # by an earlier run on the machine's CPU
    assert measured(1024, 512) == USUAL


@pytest.mark.parametrize(
    ("forms", "words"),
    [
        (Forms(), "products plain"),
        (Forms(by_rows=("sliced",) * 6, blocked=16), "products sliced; from copies in blocks up to 16 rows"),
        (
            Forms(by_rows=("sliced", "sliced", "plain", "plain", "plain", "transposed")),
            "products sliced for 1 to 2, plain for 4 to 16, transposed for 32 rows",
        ),
    ],
)
def test_the_choice_is_told_in_words(forms: Forms, words: str) -> None:
    assert str(forms) == words


def test_numbers_between_two_measured_ones_count_as_the_smaller() -> None:
    forms = Forms(by_rows=("padded", "transposed", "plain", "transposed", "plain", "transposed"))
    transposed = [rows for rows in range(1, 40) if forms.form(rows) == "transposed"]
    assert transposed == [2, 3, *range(8, 16), 32]


def test_slices_divide_the_outputs_and_keep_products_below_a_million() -> None:
    assert slice_of(8192, 2048, 1) == 128  # 262,144 multiplications
    assert slice_of(8192, 2048, 8) == 32
    assert slice_of(8192, 8192, 1) == 64
    assert slice_of(8192, 2048, 64) == 0  # even 8 outputs are too many
    assert slice_of(640, 64, 1) == 128
    assert slice_of(648, 64, 1) == 8
    assert slice_of(650, 64, 1) == 0


def test_blocks_are_as_large_as_eight_rows_allow() -> None:
    assert [block_of(8192, inputs) for inputs in (512, 1953, 1954, 2048, 7812, 7813)] == [64, 64, 32, 32, 16, 0]
    assert block_of(8192 + 16, 512) == 16
    assert block_of(8192 + 8, 512) == 0


@pytest.mark.parametrize("form", ["plain", "transposed", "padded", "sliced"])
@pytest.mark.parametrize("rows", [1, 2, 8, 33])
@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (640, 8), (7, 5)])
def test_every_form_is_the_same_product(form: Form, rows: int, shape: tuple[int, int]) -> None:
    x, weight = (mx.random.normal(size, key=mx.random.key(1)) for size in ((rows, shape[1]), shape))
    found = multiply(x, weight, form)
    assert found.shape == (rows, shape[0])
    np.testing.assert_allclose(found, x @ weight.T, rtol=0, atol=1e-5)


@pytest.mark.parametrize("streams", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 2, 9, 31])
@pytest.mark.parametrize("shape", [(640, 24), (48, 16), (16, 8)])
def test_blocks_give_the_same_product_on_any_number_of_streams_and_for_any_number_of_rows(
    streams: int, rows: int, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHARED", 1)
    monkeypatch.setattr(module, "_SMALL_PRODUCT", 16 * shape[1] * 8 + 1)  # eight rows of the smallest block
    monkeypatch.setattr(module, "streams", lambda: (None, *(mx.new_stream(mx.cpu) for _ in range(streams - 1))))
    x, weight = (mx.random.normal(size, key=mx.random.key(1)) for size in ((rows, shape[1]), shape))
    blocks = in_blocks(weight)
    assert blocks.shape[1] == shape[1]
    np.testing.assert_allclose(multiply_blocks(x, blocks), x @ weight.T, rtol=0, atol=1e-5)


def test_no_group_of_rows_is_too_large_for_a_small_product(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    matmul = mx.matmul

    def note(x: mx.array, blocks: mx.array, **options: Any) -> mx.array:
        rows.append(x.shape[0])
        return matmul(x, blocks, **options)

    monkeypatch.setattr(module, "streams", lambda: (None,))
    monkeypatch.setattr(mx, "matmul", note)
    multiply_blocks(mx.zeros((27, 1152)), mx.zeros((2, 1152, 64)))  # 14 rows would be 1,032,192 multiplications
    assert rows == [9, 9, 9]


@on_cpu
@pytest.mark.parametrize("shape", [(64, 8), (12, 8)])
def test_the_measurement_has_a_form_for_every_number_of_rows(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_WEIGHTS", 1)
    monkeypatch.setattr(module, "_WEIGHTS", 1024)
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    measure([shape])
    found = module._measured()[shape]
    assert len(found.by_rows) == 6
    assert found.blocked in ((0, 1, 2, 4, 8, 16, 32) if shape == (64, 8) else (0,))


@on_cpu
def test_copies_serve_all_batches_up_to_the_size_at_which_they_save_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_WEIGHTS", 1)
    blocks = iter([0.5, 1.0, 0.5, 0.5, 0.95, 3.0])  # seconds at each number of rows; all other forms take 1

    def seconds(work: partial[mx.array], _: float) -> float:
        return next(blocks) if work.args[0] is multiply_blocks else 1.0

    monkeypatch.setattr(module, "best_time", seconds)
    measure([(64, 8)])
    assert module._measured()[64, 8].blocked == 8
