"""Packing of documents into rows of one fixed length, with one shape to compile and little padding.

Shapes: N rows, L input positions. A row has L + 1 tokens, so that every input position has a target.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Document:
    """Tokens of one text or conversation, with their loss weights."""

    tokens: Sequence[int]
    weights: Sequence[float]
    """One per token, from 0 (not trained) to 1."""
    place: str = ""
    """Its source, `file:line`."""

    @classmethod
    def whole(cls, tokens: Sequence[int]) -> "Document":
        """A document in which every token is trained."""
        return cls(tokens, [1.0] * len(tokens))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def trained(self) -> int:
        """Number of trained targets; the first token is the target of no position."""
        return sum(weight > 0 for weight in self.weights[1:])


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Packed rows."""

    tokens: Tokens
    """(N, L + 1) token ids."""
    document: npt.NDArray[np.uint16]
    """(N, L + 1) number of the document in its row that a position belongs to, starting at 1; 0 for padding."""
    weights: npt.NDArray[np.float16]
    """(N, L + 1) loss weight of each token as a target."""
    dropped: int = 0
    """Documents dropped because they are longer than a row or have no trained token after the first."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def target_weights(self) -> npt.NDArray[np.float32]:
        """(N, L) loss weight at position i of its target at i + 1; 0 across documents and in padding."""
        before, after = self.document[:, :-1], self.document[:, 1:]
        inside: npt.NDArray[np.bool_] = (before == after) & (after > 0)
        return self.weights[:, 1:].astype(np.float32) * inside

    @property
    def padding(self) -> float:
        """Share of positions that are padding."""
        return float((self.document == 0).mean())

    def save(self, path: Path) -> None:
        np.savez(path, tokens=self.tokens, document=self.document, weights=self.weights, dropped=self.dropped)

    @classmethod
    def load(cls, path: Path) -> "Rows":
        with np.load(path) as arrays:
            return cls(
                tokens=arrays["tokens"],
                document=arrays["document"],
                weights=arrays["weights"],
                dropped=int(arrays["dropped"]),
            )


def pack(documents: Iterable[Document], length: int) -> Rows:
    """Pack documents into rows of `length` + 1 tokens by best-fit decreasing.

    No document is cut, and every row has at least one trained target.
    """
    documents = list(documents)
    fitting = [each for each in documents if len(each) <= length + 1 and any(each.weights[1:])]
    return as_rows(best_fit(fitting, length), length, dropped=len(documents) - len(fitting))


def best_fit(documents: Iterable[Document], length: int) -> list[list[Document]]:
    """Group documents into rows of `length` + 1 tokens: longest first, each into the fullest row that fits it."""
    room = length + 1
    rows: list[list[Document]] = []
    # Sorted (free tokens, row) pairs, so that the tightest fit is found by bisection.
    free: list[tuple[int, int]] = []
    for document in sorted(documents, key=len, reverse=True):
        size = len(document)
        assert size <= room
        at = bisect_left(free, (size, -1))
        if at == len(free):
            rows.append([document])
            left, row = room - size, len(rows) - 1
        else:
            left, row = free.pop(at)
            rows[row].append(document)
            left -= size
        # No conversation is this short, so a row with less space is complete.
        if left > 8:
            insort(free, (left, row))
    return rows


def as_rows(rows: Sequence[Sequence[Document]], length: int, dropped: int = 0) -> Rows:
    """Concatenate the documents of each row and pad it to `length` + 1 tokens."""
    room = length + 1
    tokens = np.zeros((len(rows), room), np.uint32)
    numbers = np.zeros((len(rows), room), np.uint16)
    weights = np.zeros((len(rows), room), np.float16)
    for i, members in enumerate(rows):
        at = 0
        for number, document in enumerate(members, start=1):
            span = slice(at, at + len(document))
            tokens[i, span] = document.tokens
            numbers[i, span] = number
            weights[i, span] = document.weights
            at += len(document)
    return Rows(tokens=tokens, document=numbers, weights=weights, dropped=dropped)


SHORTEST_ROW = 256
"""Minimum length of a packed row; a shorter one would have an example or two and much padding."""


def usual_row_length(documents: Sequence[Document]) -> int:
    """Default row length for packing: the longest document, rounded up to a multiple of 64 positions."""
    longest = max(map(len, documents)) - 1
    return max(SHORTEST_ROW, -(-longest // 64) * 64)
