"""Documents on which trainers are compared: log-normal lengths and a rule that can be learned."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_suite.data.batch.rows import Document, best_fit, usual_row_length
from mlx_suite.runtime.errors import UserError

RING = 256
"""Distinct tokens, arranged in a ring. Each token is one to three places after the previous one, so a model that has
learned the rule has a loss of log 3 = 1.099 nats per token."""
BATCHINGS = ("pack", "bucket", "pack-all")
"""Choices of `TrainingRows.batching`."""
SHORTEST = 4
"""Fewest tokens of a prompt, and of a response."""


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """Number and lengths of the documents, and how they are trained on. Lengths are log-normal, as in real chats."""

    rows: int = 128
    """A multiple of `batch`, since mlx-lm drops an incomplete batch."""
    held_out: int = 16
    """Further documents, on which the trained models are evaluated."""
    prompt: float = 36.0
    """Median tokens of a prompt, which is not trained."""
    answer: float = 36.0
    """Median tokens of a response."""
    spread: float = 1.0
    """Log standard deviation: at 1 the mean is 1.65 times the median, and one length in a hundred is ten times it."""
    longest: int = 1024
    """Longest document, in tokens."""
    batch: int = 4
    """Documents per step, mlx-lm's default. A step of packed rows has about as many tokens."""
    batching: str = "pack"
    """How batches are formed: `pack`, ours as by default and the others' as by theirs; `bucket`, ours with one padded
    document per row as theirs; `pack-all`, theirs from rows in which documents are joined, which see each other there,
    while ours isolates them."""
    rank: int = 8
    scale: float = 20.0
    """Factor of the adapter's product. Rank and scale are mlx-lm's defaults."""
    learning_rate: float = 1e-4
    """Constant learning rate of AdamW."""
    repeats: int = 3
    """Timed passes over all rows, after an untimed one."""
    seed: int = 0

    @property
    def passes(self) -> int:
        return 1 + self.repeats


def make_documents(rows: TrainingRows, vocabulary: int) -> tuple[list[Document], list[Document]]:
    """(training, held-out) documents, a function of the seed."""
    rng = random.Random(rows.seed)
    documents = [_document(rows, rng, min(RING, vocabulary)) for _ in range(rows.rows + rows.held_out)]
    return documents[: rows.rows], documents[rows.rows :]


def packed_rows(documents: Sequence[Document], rows: TrainingRows) -> tuple[int, int]:
    """(length, rows per step) of packed rows: a step trains about as many tokens as `rows.batch` documents have."""
    length = usual_row_length(documents)
    per_step = sum(map(len, documents)) / len(documents) * rows.batch
    return length, max(1, round(per_step / length))


def others_rows(documents: Sequence[Document], rows: TrainingRows) -> tuple[list[Document], int]:
    """(documents, documents per step) for the other trainers: joined in packed rows if `rows.batching` says so."""
    if rows.batching != "pack-all":
        return list(documents), rows.batch
    length, size = packed_rows(documents, rows)
    groups = best_fit(documents, length)
    while len(groups) % size:  # mlx-lm drops an incomplete batch
        fullest = max(groups, key=len)
        if len(fullest) == 1:
            raise UserError("too few documents for rows that all trainers pack", "--batches", "use more batches")
        groups.append([fullest.pop()])
    joined = [
        Document([token for each in group for token in each.tokens], [w for each in group for w in each.weights])
        for group in groups
    ]
    return joined, size


def _document(rows: TrainingRows, rng: random.Random, ring: int) -> Document:
    prompt = _length(rng, rows.prompt, rows.spread, rows.longest - SHORTEST)
    answer = _length(rng, rows.answer, rows.spread, rows.longest - prompt)
    tokens = [rng.randrange(ring)]
    while len(tokens) < prompt + answer:
        tokens.append((tokens[-1] + rng.randint(1, 3)) % ring)
    return Document(tokens, [0.0] * prompt + [1.0] * answer)


def _length(rng: random.Random, median: float, spread: float, most: int) -> int:
    return min(max(round(rng.lognormvariate(math.log(median), spread)), SHORTEST), most)
