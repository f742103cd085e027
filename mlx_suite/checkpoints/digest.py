"""Digest of a model's weights, to check whether two models are equal."""

import hashlib
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
    digest = hashlib.sha256()
    for name, weight in sorted(named_parameters(model).items()):
        flat = weight.reshape(-1)
        total = 0
        for start in range(0, flat.size, PORTION):
            part = flat[start : start + PORTION]
            floating = mx.issubdtype(part.dtype, mx.floating)
            bits = part.astype(mx.float32).view(mx.uint32) if floating else part.astype(mx.uint32)
            places = mx.arange(start, start + part.size, dtype=mx.uint32)
            total += cast(int, (bits * (2 * places + 1)).sum().item())
        digest.update(f"{name} {tuple(weight.shape)} {total % 2**32}\n".encode())
    return digest.hexdigest()[:12]
