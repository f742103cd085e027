"""Documents packed into rows of one fixed length: one shape, one compilation, next to no padding.

Shapes: N rows, L positions that are fed (a row holds L + 1 tokens, so that each fed one has a target).
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Packed rows. `document` numbers the documents of a row from 1; 0 is padding."""

    tokens: Tokens
    """(N, L + 1) token ids."""
    document: npt.NDArray[np.uint16]
    """(N, L + 1) which document a position belongs to."""
    dropped: int = 0
    """Documents left out: longer than a row, or too short to have a token that follows another."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def trained(self) -> npt.NDArray[np.bool_]:
        """(N, L): whether position i predicts a token of its own document at i + 1."""
        before, after = self.document[:, :-1], self.document[:, 1:]
        same: npt.NDArray[np.bool_] = before == after
        return same & (after > 0)

    @property
    def padding(self) -> float:
        """Share of positions that hold no document."""
        return float((self.document == 0).mean())

    def save(self, path: Path) -> None:
        np.savez(path, tokens=self.tokens, document=self.document, dropped=self.dropped)

    @classmethod
    def load(cls, path: Path) -> "Rows":
        with np.load(path) as arrays:
            return cls(tokens=arrays["tokens"], document=arrays["document"], dropped=int(arrays["dropped"]))


def pack(documents: Iterable[Sequence[int]], length: int) -> Rows:
    """Best-fit decreasing into rows of `length` + 1 tokens; a document is never cut, every row has something to learn."""
    room = length + 1
    rows: list[list[Sequence[int]]] = []
    # (free tokens, row) in order, so that the tightest fit is one bisection away.
    free: list[tuple[int, int]] = []
    dropped = 0
    for document in sorted(documents, key=len, reverse=True):
        size = len(document)
        if size > room or size < 2:
            dropped += 1
            continue
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
    tokens = np.zeros((len(rows), room), np.uint32)
    numbers = np.zeros((len(rows), room), np.uint16)
    for i, members in enumerate(rows):
        at = 0
        for number, document in enumerate(members, start=1):
            tokens[i, at : at + len(document)] = document
            numbers[i, at : at + len(document)] = number
            at += len(document)
    return Rows(tokens=tokens, document=numbers, dropped=dropped)


def batches(rows: int, size: int, seed: int, start: int = 0) -> Iterator[npt.NDArray[np.int64]]:
    """Endless batches of row indices, each epoch in a new order; `start` batches in, the same as without a pause.

    The order is a function of (seed, epoch, position) alone, so a resumed run reads what an undisturbed one reads.
    """
    per_epoch = rows // size
    assert per_epoch > 0, f"{rows} rows do not fill a batch of {size}"
    epoch, position = divmod(start, per_epoch)
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(rows)
        for i in range(position, per_epoch):
            yield order[i * size : (i + 1) * size]
        epoch, position = epoch + 1, 0
