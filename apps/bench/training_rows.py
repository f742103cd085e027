"""What trainers are compared on: documents of log-normal lengths with something to learn in them."""

import math
import random
from dataclasses import dataclass

from mlx_suite.data.batch.rows import Document

RING = 256
"""Tokens of the texts. They stand on a ring, and each is one to three places behind the one before: who has understood
that has a loss of log 3, 1.099 nats per token."""
SHORTEST = 4
"""Tokens of a prompt, and of an answer, at least."""


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """How many documents, how long, and how they are trained on. Lengths are log-normal, as those of chats are."""

    rows: int = 128
    """A multiple of `batch`: mlx-lm leaves out what does not fill one."""
    held_out: int = 16
    """Documents beside them, that the trained models are judged on."""
    prompt: float = 36.0
    """Median tokens of a prompt, which is not trained."""
    answer: float = 36.0
    """Median tokens of an answer."""
    spread: float = 1.0
    """Standard deviation of the logarithms: with 1 the mean is 1.65 medians, and one in a hundred has ten."""
    longest: int = 1024
    """Tokens of a document at most."""
    batch: int = 4
    """Documents of a step, mlx-lm's default. Of packed rows a step gets as many as hold about as much."""
    rank: int = 8
    scale: float = 20.0
    """What the product of an adapter's matrices counts; rank and scale are mlx-lm's defaults."""
    learning_rate: float = 1e-4
    """Of AdamW, constant."""
    repeats: int = 3
    """Timed passes over all rows, behind one that is not timed."""
    seed: int = 0

    @property
    def passes(self) -> int:
        return 1 + self.repeats


def make_documents(rows: TrainingRows, vocabulary: int) -> tuple[list[Document], list[Document]]:
    """(trained on, held out); the same for the same seed."""
    rng = random.Random(rows.seed)
    documents = [_document(rows, rng, min(RING, vocabulary)) for _ in range(rows.rows + rows.held_out)]
    return documents[: rows.rows], documents[rows.rows :]


def answer_tokens(document: Document) -> int:
    """Tokens of a document that are trained."""
    return sum(weight > 0 for weight in document.weights[1:])


def _document(rows: TrainingRows, rng: random.Random, ring: int) -> Document:
    prompt = _length(rng, rows.prompt, rows.spread, rows.longest - SHORTEST)
    answer = _length(rng, rows.answer, rows.spread, rows.longest - prompt)
    tokens = [rng.randrange(ring)]
    while len(tokens) < prompt + answer:
        tokens.append((tokens[-1] + rng.randint(1, 3)) % ring)
    return Document(tokens, [0.0] * prompt + [1.0] * answer)


def _length(rng: random.Random, median: float, spread: float, most: int) -> int:
    return min(max(round(rng.lognormvariate(math.log(median), spread)), SHORTEST), most)
