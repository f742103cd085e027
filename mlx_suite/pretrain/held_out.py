"""The end of a tokenized corpus, held out for evaluation: its last documents, which are never trained on."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mlx_suite.data.corpus.token_file import Ends, Ids, TokenFile

MOST = 100_000
"""Maximum tokens held out of one part: an evaluation takes as long as training on a third of them."""


@dataclass(frozen=True, kw_only=True)
class TokenSpan(TokenFile):
    """A run of tokens of a tokenized corpus, as a corpus of its own."""

    start: int
    stop: int
    """First token, and the one after the last."""

    @property
    def count(self) -> int:
        return self.stop - self.start

    @property
    def documents(self) -> int:
        return len(self.ends)

    @property
    def text_bytes(self) -> int:
        raise AttributeError("the bytes of a span's text are not recorded")

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint} {self.start}-{self.stop}"

    @cached_property
    def tokens(self) -> Ids:
        return TokenFile(folder=self.folder, manifest=self.manifest).tokens[self.start : self.stop]

    @cached_property
    def ends(self) -> Ends:
        """As in the whole; the end of the span ends its last document, if that was cut."""
        ends = TokenFile(folder=self.folder, manifest=self.manifest).ends
        first, last = np.searchsorted(ends, [self.start + 1, self.stop + 1])
        inside = np.asarray(ends[first:last], np.uint64) - np.uint64(self.start)
        return inside if len(inside) and inside[-1] == self.count else np.append(inside, np.uint64(self.count))

    def read(self, start: int, stop: int) -> Ids:
        return super().read(self.start + start, self.start + stop)


def hold_out(file: TokenFile, share: float) -> tuple[TokenFile, TokenFile | None]:
    """Split a corpus into training tokens and held-out ones: the last documents that have at most `share` of it.

    If the last document alone is longer, its end is held out. None if that would be fewer than two tokens, or leave
    fewer than two.
    """
    size = min(int(share * file.count), MOST)
    if size < 2 or file.count - size < 2:
        return file, None
    cut = file.count - size
    boundary = int(file.ends[np.searchsorted(file.ends, cut)])
    if boundary < file.count - 1:
        cut = boundary
    parts = (
        TokenSpan(folder=file.folder, manifest=file.manifest, start=a, stop=b) for a, b in ((0, cut), (cut, file.count))
    )
    train, held_out = parts
    return train, held_out
