"""Bits per byte: the loss on held-out text per UTF-8 byte, comparable between tokenizers and models.

The marks between documents (BOS, EOS) count with their bits and no bytes, since a reader needs to know where a document
ends.
"""

import math
from dataclasses import dataclass

import numpy as np

from mlx_suite.data.batch.batches import Batches
from mlx_suite.text import Tokenizer


@dataclass(frozen=True, kw_only=True)
class TargetBytes:
    """Targets of an evaluation, and the bytes they stand for."""

    targets: int
    text_bytes: int

    def bits_per_byte(self, loss: float) -> float:
        """Bits per byte for a mean loss in nats per target."""
        return loss * self.targets / math.log(2) / max(self.text_bytes, 1)


def target_bytes(batches: Batches, tokenizer: Tokenizer) -> TargetBytes:
    """Count the targets of an evaluation on `batches` and the bytes of their text."""
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    targets = text_bytes = 0
    for chosen in batches.order(0, 0):
        batch = batches.take(chosen)
        ids = batch.targets[batch.weights > 0]
        targets += len(ids)
        if tokenizer.backend.token_bytes is None:
            # Without a byte spelling only whole texts can be decoded: exact but for characters cut by a batch.
            text_bytes += len(tokenizer.decode(ids.tolist()).encode())
        else:
            counts += np.bincount(ids, minlength=len(counts))
    used = [int(index) for index in np.flatnonzero(counts) if index not in tokenizer.special_ids]
    text_bytes += sum(int(counts[index]) * len(tokenizer.bytes_of(index)) for index in used)
    return TargetBytes(targets=targets, text_bytes=text_bytes)
