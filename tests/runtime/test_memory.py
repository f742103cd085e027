"""Sizes as text, the device, and the limits given to MLX."""

from collections.abc import Iterator

import mlx.core as mx
import pytest

from mlx_suite.runtime.device import Device, device, fits, set_limits, weights_dtype
from mlx_suite.runtime.memory import (
    available_memory,
    human_bytes,
    machine_memory,
    parse_size,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 KB"),
        (131_072, "131 KB"),
        (999_600, "1.00 MB"),
        (4_516_000_000, "4.52 GB"),
        (16_060_000_000, "16.1 GB"),
        (99_960_000_000, "100 GB"),
        (1_500_000_000_000, "1.50 TB"),
        (5_000_000_000_000_000, "5000 TB"),
    ],
)
def test_a_size_is_shown_to_three_figures(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8 * 10**9),
        (" 8 gb ", 8 * 10**9),
        ("1.5G", 15 * 10**8),
        ("8GiB", 8 * 2**30),
        ("512m", 512 * 10**6),
        ("1000", 1000),
        ("0", 0),
        ("", None),
        ("GB", None),
        ("-8GB", None),
        ("8XB", None),
        ("8iB", None),
        ("٨GB", None),
        ("1e9", None),
    ],
)
def test_a_size_is_read_in_decimal_and_binary_units(text: str, size: int | None) -> None:
    assert parse_size(text) == size


def test_available_memory_is_at_most_the_machines() -> None:
    assert machine_memory() >= available_memory() > 0


@pytest.fixture
def limits_restored() -> Iterator[None]:
    memory = mx.get_memory_limit()
    cache = mx.set_cache_limit(0)
    yield
    mx.set_memory_limit(memory)
    mx.set_cache_limit(cache)


def gpu(working_set_bytes: int) -> Device:
    return Device(
        kind="metal",
        name="Apple M4",
        memory_bytes=24_000_000_000,
        working_set_bytes=working_set_bytes,
        blas=None,
    )


def test_mlx_may_use_the_working_set_and_cache_an_eighth_of_it(limits_restored: None) -> None:
    limits = set_limits(gpu(16_000_000_000))

    assert (limits.memory_bytes, limits.cache_bytes) == (16_000_000_000, 2_000_000_000)
    assert mx.get_memory_limit() == 16_000_000_000


def test_a_small_machine_keeps_a_useful_cache(limits_restored: None) -> None:
    assert set_limits(gpu(1_000_000_000)).cache_bytes == 256_000_000
    assert set_limits(gpu(100_000_000)).cache_bytes == 100_000_000


def test_a_size_fits_up_to_the_working_set() -> None:
    working_set = device().working_set_bytes

    assert fits(working_set)
    assert not fits(working_set + 1)


def test_the_device_is_the_cpu_if_that_is_mlxs_default() -> None:
    before = mx.default_device()
    mx.set_default_device(mx.Device(mx.cpu))
    try:
        here = device()
    finally:
        mx.set_default_device(before)

    assert here.kind == "cpu"
    assert here.blas is not None
    assert 0 < here.working_set_bytes < here.memory_bytes


def test_on_the_cpu_every_checkpoint_is_loaded_as_dense_float32() -> None:
    for dtype in ("bfloat16", "float16", "float32"):
        for quantized in (False, True):
            policy = weights_dtype("cpu", dtype, quantized)
            assert (policy.dtype, policy.dequantize) == ("float32", quantized)


def test_a_gpu_keeps_the_precision_of_the_checkpoint() -> None:
    for quantized in (False, True):
        policy = weights_dtype("metal", "torch.bfloat16", quantized)
        assert (policy.dtype, policy.dequantize) == ("bfloat16", False)
    assert weights_dtype("cuda", "float16", False).dtype == "float16"
