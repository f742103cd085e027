"""Blocks of GGUF types as MLX's affine quantization: the same codes, a scale and a bias per group of 32 columns.

    Q4_0  d·(q − 8)       4 bits      Q4_1  d·q + m     4 bits      Q4_K  d·s·q − dmin·m    4 bits
    Q5_0  d·(q − 16)      5 bits      Q5_1  d·q + m     5 bits      Q5_K  d·s·q − dmin·m    5 bits
    Q8_0  d·q, q signed   8 bits

No code changes, so the only error is the rounding of scales and biases to their dtype: none in float16 for the types
without K, whose d and m are float16 themselves (and −8·d, −16·d, −128·d are powers of two times it). Other types have
no such form: Q6_K has groups of 16, IQ types have tables.

Layouts: ggml's `ggml-common.h`. Shapes: R rows, N columns, G = N / 32 groups.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from mlx_suite.gguf.tensors import Rows

GROUP = 32
BITS: Mapping[str, int] = {"Q4_0": 4, "Q4_1": 4, "Q4_K": 4, "Q5_0": 5, "Q5_1": 5, "Q5_K": 5, "Q8_0": 8}
"""Types that can be repacked, and their bits."""


class Packed(NamedTuple):
    """Rows in MLX's layout."""

    weight: np.ndarray
    """Codes, the first in the lowest bits: (R, N·bits / 32) uint32."""
    scales: np.ndarray
    """(R, G) fp32."""
    biases: np.ndarray
    """(R, G) fp32."""


def repack(rows: Rows, type: str) -> Packed:
    """Stored rows of one of the types of `BITS` in MLX's layout."""
    block_bytes, unpack = _LAYOUTS[type]
    blocks = rows.reshape(-1, block_bytes)
    codes, scales, biases = unpack(blocks)
    count = rows.shape[0]
    return Packed(_words(codes.reshape(count, -1), BITS[type]), scales.reshape(count, -1), biases.reshape(count, -1))


def _words(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes (R, N) uint8 as one stream of bits per row."""
    if bits == 4:
        codes = codes[:, 0::2] | codes[:, 1::2] << 4
    elif bits != 8:
        low = np.unpackbits(codes[..., None], axis=-1, bitorder="little")[..., :bits]
        codes = np.packbits(low.reshape(codes.shape[0], -1), axis=-1, bitorder="little")
    return np.ascontiguousarray(codes).view("<u4")


_Unpacked = tuple[np.ndarray, np.ndarray, np.ndarray]


def _half(blocks: Rows, start: int) -> np.ndarray:
    """The float16 at byte `start` of each block, in fp32: (blocks, 1)."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view("<f2").astype(np.float32)


def _nibbles(stored: np.ndarray) -> np.ndarray:
    """(…, n) bytes to (…, 2n) codes: all low halves, then all high ones."""
    return np.concatenate([stored & 15, stored >> 4], axis=-1)


def _q4_0(blocks: Rows) -> _Unpacked:
    d = _half(blocks, 0)
    return _nibbles(blocks[:, 2:18]), d, -8 * d


def _q4_1(blocks: Rows) -> _Unpacked:
    return _nibbles(blocks[:, 4:20]), _half(blocks, 0), _half(blocks, 2)


def _q5_0(blocks: Rows) -> _Unpacked:
    d = _half(blocks, 0)
    return _nibbles(blocks[:, 6:22]) | _fifth_bits(blocks[:, 2:6]), d, -16 * d


def _q5_1(blocks: Rows) -> _Unpacked:
    return _nibbles(blocks[:, 8:24]) | _fifth_bits(blocks[:, 4:8]), _half(blocks, 0), _half(blocks, 2)


def _fifth_bits(stored: np.ndarray) -> np.ndarray:
    return np.unpackbits(np.ascontiguousarray(stored), axis=-1, bitorder="little") << 4


def _q8_0(blocks: Rows) -> _Unpacked:
    d = _half(blocks, 0)
    return blocks[:, 2:34] ^ 128, d, -128 * d  # a signed byte plus 128


def _q4_k(blocks: Rows) -> _Unpacked:
    return _sub_blocks(blocks[:, 16:144]), *_super_block(blocks)


def _q5_k(blocks: Rows) -> _Unpacked:
    high = blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1  # bit i belongs to sub-block i
    return _sub_blocks(blocks[:, 48:176]) | high << 4, *_super_block(blocks)


def _sub_blocks(stored: np.ndarray) -> np.ndarray:
    """128 bytes to the codes of 8 sub-blocks of 32: each 32 bytes hold two sub-blocks, the first in the low halves."""
    return _nibbles(stored.reshape(-1, 4, 32)).reshape(-1, 8, 32)


def _super_block(blocks: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Scale and bias of the 8 sub-blocks of a block of 256: 6-bit factors of the block's d and −dmin."""
    low, mid, high = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.concatenate([low & 63, high & 15 | low >> 6 << 4], axis=-1)
    minima = np.concatenate([mid & 63, high >> 4 | mid >> 6 << 4], axis=-1)
    return _half(blocks, 0) * scales, -_half(blocks, 2) * minima


_LAYOUTS: Mapping[str, tuple[int, Callable[[Rows], _Unpacked]]] = {
    "Q4_0": (18, _q4_0),
    "Q4_1": (20, _q4_1),
    "Q4_K": (144, _q4_k),
    "Q5_0": (22, _q5_0),
    "Q5_1": (24, _q5_1),
    "Q5_K": (176, _q5_k),
    "Q8_0": (34, _q8_0),
}
"""Bytes of a block, and the function that returns its codes, scales and biases."""
