"""Weights of a GGUF file, read and expanded a few rows at a time."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from mlx_suite.gguf.file import GgufTensor

CHUNK = 1 << 22
"""Weights expanded at a time: 16 MiB in fp32."""

Rows = np.ndarray[Any, np.dtype[np.uint8]]
"""Stored rows, (rows, bytes per row): a row is a whole number of blocks."""


def stored_rows(tensor: GgufTensor, order: np.ndarray | None = None) -> Iterator[Rows]:
    """Yield the stored bytes of consecutive rows, about `CHUNK` weights at a time; a vector is one row.

    Args:
        order: Row numbers in the order to yield them; the tensor is then read whole, still in its stored type.
    """
    vector = len(tensor.shape) < 2
    columns = 1 if vector and order is not None else tensor.shape[-1]
    rows = tensor.size // columns
    row_bytes = tensor.nbytes // rows
    step = max(1, CHUNK // columns)
    with tensor.file.open("rb") as file:
        file.seek(tensor.offset)
        whole = None if order is None else _read(file, rows, row_bytes)[order]
        for start in range(0, rows, step):
            count = min(step, rows - start)
            yield _read(file, count, row_bytes) if whole is None else whole[start : start + count]


def _read(file: Any, rows: int, row_bytes: int) -> Rows:
    return np.frombuffer(file.read(rows * row_bytes), np.uint8).reshape(rows, row_bytes)


def expanded(rows: Rows, type: str) -> np.ndarray:
    """The weights of stored rows in fp32, (rows, columns)."""
    import gguf

    values: np.ndarray = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[type])
    return values.astype(np.float32, copy=False)


def read_vector(tensor: GgufTensor) -> np.ndarray:
    """All weights of a small tensor in fp32, flat."""
    return np.concatenate([expanded(rows, tensor.type).reshape(-1) for rows in stored_rows(tensor)])


@cache
def can_expand(type: str) -> bool:
    """Whether the gguf package can turn this type into numbers: not integers, nor types of intermediate results."""
    import gguf

    kind = gguf.GGMLQuantizationType[type]
    _, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    try:
        gguf.quants.dequantize(np.zeros((1, block_bytes), np.uint8), kind)
    except NotImplementedError:
        return False
    return True
