"""Documents packed into rows of one fixed length: one shape, one compilation, next to no padding.

Shapes: N rows, L positions that are fed (a row holds L + 1 tokens, so that each fed one has a target).
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
    """Tokens that belong together, and how much each counts as something to predict."""

    tokens: Sequence[int]
    weights: Sequence[float]
    """Per token, from 0 (not trained) to 1."""
    place: str = ""
    """Where it comes from, `file:line`."""

    @classmethod
    def whole(cls, tokens: Sequence[int]) -> "Document":
        """Every token is trained."""
        return cls(tokens, [1.0] * len(tokens))

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Packed rows. `document` numbers the documents of a row from 1; 0 is padding."""

    tokens: Tokens
    """(N, L + 1) token ids."""
    document: npt.NDArray[np.uint16]
    """(N, L + 1) which document a position belongs to."""
    weights: npt.NDArray[np.float16]
    """(N, L + 1) how much a token counts as a target."""
    dropped: int = 0
    """Documents left out: longer than a row, or without a token to learn behind the first."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def target_weights(self) -> npt.NDArray[np.float32]:
        """(N, L): how much the target at i + 1 of position i counts; nothing across documents and in padding."""
        before, after = self.document[:, :-1], self.document[:, 1:]
        inside: npt.NDArray[np.bool_] = (before == after) & (after > 0)
        return self.weights[:, 1:].astype(np.float32) * inside

    @property
    def padding(self) -> float:
        """Share of positions that hold no document."""
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
    """Best-fit decreasing into rows of `length` + 1 tokens; no document is cut, each row has something to learn."""
    documents = list(documents)
    fitting = [each for each in documents if len(each) <= length + 1 and any(each.weights[1:])]
    return as_rows(best_fit(fitting, length), length, dropped=len(documents) - len(fitting))


def best_fit(documents: Iterable[Document], length: int) -> list[list[Document]]:
    """Which documents share a row of `length` + 1 tokens: the longest first, each where the least room is left."""
    room = length + 1
    rows: list[list[Document]] = []
    # (free tokens, row) in order, so that the tightest fit is one bisection away.
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
        # A conversation has more than a handful of tokens: fuller rows are done.
        if left > 8:
            insort(free, (left, row))
    return rows


def as_rows(rows: Sequence[Sequence[Document]], length: int, dropped: int = 0) -> Rows:
    """The documents of each row one behind the other."""
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
"""Tokens of a packed row at least: shorter ones would each hold an example or two and much padding."""


def usual_row_length(documents: Sequence[Document]) -> int:
    """Positions of the rows that documents are packed into where nobody says: room for the longest, in 64s."""
    longest = max(map(len, documents)) - 1
    return max(SHORTEST_ROW, -(-longest // 64) * 64)
