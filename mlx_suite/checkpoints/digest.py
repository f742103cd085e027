"""Digest of a model's weights, to check whether two models are equal."""

import hashlib
from collections.abc import Mapping
from typing import Any, cast

import mlx.core as mx

from mlx_suite.checkpoints.weights import named_parameters

PORTION = 1 << 26
"""Elements cast to float32 at a time: 256 MiB for any model size."""


def weights_digest(model: Any) -> str:
    """12 hexadecimal digits that depend on every weight's name, shape and bits.

    A bfloat16 checkpoint and its float32 cast have the same digest. It is a position-weighted sum of the bits modulo
    2^32, which does not depend on the order of summation, so all devices agree. Each weight is read once.
    """
    sums = {}
    for name, weight in named_parameters(model).items():
        flat = weight.reshape(-1)
        parts = (bit_sum(flat[start : start + PORTION], start) for start in range(0, flat.size, PORTION))
        sums[name] = (tuple(weight.shape), sum(cast(int, part.item()) for part in parts))
    return digest_of(sums)


def bit_sum(part: mx.array, start: int) -> mx.array:
    """The sum of a weight's flat part that begins at element `start`; the sums of all parts add up to the weight's."""
    floating = mx.issubdtype(part.dtype, mx.floating)
    bits = part.astype(mx.float32).view(mx.uint32) if floating else part.astype(mx.uint32)
    places = mx.arange(start, start + part.size, dtype=mx.uint32)
    return (bits * (2 * places + 1)).sum()


def digest_of(sums: Mapping[str, tuple[tuple[int, ...], int]]) -> str:
    """The digest of weights with these shapes and sums, by name."""
    digest = hashlib.sha256()
    for name, (shape, total) in sorted(sums.items()):
        digest.update(f"{name} {shape} {total % 2**32}\n".encode())
    return digest.hexdigest()[:12]
