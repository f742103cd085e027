"""NEFTune (arXiv 2310.05914): noise on the embeddings during training, to reduce memorization of responses.

Shapes: B rows, L positions, d hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.training.documents import document_sizes


def add_noise(embedding: nn.Module, alpha: float) -> None:
    """Make `embedding` add uniform noise within ±`alpha` / √(length · d) to its output, in training mode only.

    `length` is that of the row or, inside `document_lengths`, that of each position's document.
    """
    kind = type(embedding)
    lengths: list[mx.array] = []

    def call(module: nn.Module, tokens: mx.array) -> mx.array:
        x: mx.array = kind.__call__(module, tokens)
        if not module.training:
            return x
        length = lengths[-1][..., None] if lengths else mx.array(float(x.shape[-2]))
        size = alpha * mx.rsqrt(length * x.shape[-1])
        return x + (size * mx.random.uniform(-1.0, 1.0, x.shape)).astype(x.dtype)  # (B, L, d)

    noisy = {"__call__": call, "noiseless": kind, "lengths": lengths}
    embedding.__class__ = type(kind.__name__, (kind,), noisy)


@contextmanager
def document_lengths(embedding: nn.Module | None, document: mx.array | None) -> Iterator[None]:
    """Context manager that scales noise by the length of each document instead of that of its packed row.

    `document` (B, L) is the document id of each position; None if every row is one document.
    """
    lengths: list[mx.array] | None = getattr(type(embedding), "lengths", None)
    if lengths is None or document is None:
        yield
        return
    lengths.append(document_sizes(document).astype(mx.float32))
    try:
        yield
    finally:
        lengths.pop()
