"""Sizes of memory as people write them."""

import pytest

from mlx_suite.runtime.size import parse_size


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
def test_sizes(text: str, size: int | None) -> None:
    assert parse_size(text) == size
