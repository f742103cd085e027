"""Long documents in pieces that are tokenized one by one, with the tokens of the whole.

A cut is made only where the tokens around it are those of the two sides, which is tried on the characters nearby.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mlx_suite.data.corpus.documents import CorpusText
from mlx_suite.text import Tokenizer

LONG = 1 << 16
"""Characters of a document that are tokenized at once."""
TOO_LONG = 1 << 24
"""Characters after which a document is cut even if its tokens change there."""
NEARBY = 64
"""Characters on either side of a cut on which it is tried."""
TRIES = 16
"""Places tried for one cut."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A document, or a part of one."""

    text: str
    first: bool
    """Whether it begins its document."""
    last: bool
    """Whether it ends its document."""


class PieceCutter:
    """Cuts the texts of a corpus into pieces, holding back the end of a text that the next one continues.

    Args:
        held: State of an earlier cutter to go on from.
        inside: State of an earlier cutter: whether a document has begun.
    """

    def __init__(self, tokenizer: Tokenizer, held: str = "", inside: bool = False) -> None:
        self._tokenizer = tokenizer
        self.held = held
        """Text that has been fed and is in no piece yet."""
        self.inside = inside
        """Whether a piece of the current document has been given out."""

    @property
    def is_open(self) -> bool:
        """Whether a document has begun that has not ended."""
        return self.inside or bool(self.held)

    def feed(self, text: CorpusText) -> Iterator[Piece]:
        """The pieces that a text completes."""
        whole, at = self.held + text.text, 0
        while len(whole) - at > LONG:
            cut = self._cut(whole, at)
            if cut is None:
                break
            yield self._piece(whole[at:cut], last=False)
            at = cut
        self.held = whole[at:]
        if not text.unfinished:
            yield from self.end()

    def end(self) -> Iterator[Piece]:
        """The last piece of a document, if one has begun."""
        if self.is_open:
            text, self.held = self.held, ""
            yield self._piece(text, last=True)

    def _piece(self, text: str, *, last: bool) -> Piece:
        first, self.inside = not self.inside, not last
        return Piece(text=text, first=first, last=last)

    def _cut(self, text: str, start: int) -> int | None:
        """Where to cut `text` after `start`; None if its tokens would change at every place tried."""
        end = start + LONG
        for _ in range(TRIES):
            end = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end))
            if end < 0:
                break
            if self._is_harmless(text, end):
                return end
        return start + LONG if len(text) - start > TOO_LONG else None

    def _is_harmless(self, text: str, cut: int) -> bool:
        left, right = text[max(0, cut - NEARBY) : cut], text[cut : cut + NEARBY]
        both, one, other = self._tokenizer.encode_batch([left + right, left, right], at_start=False)
        return bool(np.array_equal(both, np.concatenate([one, other])))
