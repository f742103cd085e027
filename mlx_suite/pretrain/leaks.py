"""Held-out data in a training corpus: which items occur, in which part of the corpus, and how often.

What counts as an occurrence is the rule of `mlx_suite.curation.duplicates.decontamination`: a shared run of 13 words
for a long item, all of a short one. The corpus is streamed, whatever its size.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlx_suite.curation.duplicates.decontamination import Contamination
from mlx_suite.data.corpus.documents import read_corpus
from mlx_suite.data.read.records import Problem
from mlx_suite.pretrain.settings import CorpusPart
from mlx_suite.runtime.errors import shortened

TAIL = 1000
"""Characters of a piece of a long document that are searched again with the next piece."""


@dataclass(frozen=True, kw_only=True)
class Leak:
    """A held-out item that occurs in a part of the corpus."""

    item: str
    """Its place in the held-out data, `file:line`."""
    part: str
    """Name of the part of the corpus."""
    texts: int
    """Texts of the part that contain it."""
    first: str
    """Place of the first of them."""

    def __str__(self) -> str:
        return f"{self.item}: in {_texts(self.texts)} of {self.part}, first {self.first}"


@dataclass(frozen=True, kw_only=True)
class LeakReport:
    """Result of `find_leaks`."""

    held_out: int
    """Rows or lines of the held-out data that have words."""
    searched: Mapping[str, int]
    """Texts searched, by part of the corpus."""
    unread: Mapping[str, int]
    """Texts that could not be read, by part."""
    leaks: tuple[Leak, ...]
    """The most frequent first."""

    @property
    def leaked(self) -> int:
        """Held-out items that occur anywhere in the corpus."""
        return len({leak.item for leak in self.leaks})

    @property
    def share(self) -> float:
        """`leaked` as a share of the held-out items."""
        return self.leaked / max(self.held_out, 1)

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "leaked": self.leaked, "share": round(self.share, 6)}

    @property
    def lines(self) -> list[str]:
        """The report for printing: the total, each part, and the first of the leaks."""
        total = f"{self.leaked:,} of {self.held_out:,} held-out items occur in the corpus ({self.share:.2%})"
        by_part = Counter(leak.part for leak in self.leaks)
        parts = [
            f"{name}: {by_part[name]:,} in {_texts(count)}"
            + (f"; {self.unread[name]:,} could not be read" if self.unread[name] else "")
            for name, count in self.searched.items()
        ]
        return [total, *parts, *shortened(self.leaks)]


def find_leaks(
    corpus: Sequence[CorpusPart],
    held_out: Contamination,
    *,
    tell: Callable[[int], None] = lambda texts: None,
) -> LeakReport:
    """Search every text of a corpus for held-out items.

    Args:
        corpus: The parts, whose titles differ.
        held_out: Index of the items; `Contamination.from_files` reads them from files.
        tell: Called after each text with the number searched so far.

    Raises UserError for a source that does not exist or cannot be opened.
    """
    searched, unread = ({part.title: 0 for part in corpus} for _ in range(2))
    leaks: list[Leak] = []
    for part in corpus:
        name = part.title
        times: Counter[str] = Counter()
        first: dict[str, str] = {}
        for place, found in _search(part, held_out):
            if found is None:
                unread[name] += 1
                continue
            searched[name] += 1
            times.update(found)
            for item in found:
                first.setdefault(item, place)
            tell(sum(searched.values()))
        leaks += [Leak(item=item, part=name, texts=count, first=first[item]) for item, count in times.items()]
    return LeakReport(
        held_out=len(held_out.places),
        searched=searched,
        unread=unread,
        leaks=tuple(sorted(leaks, key=lambda leak: (-leak.texts, leak.item, leak.part))),
    )


def _search(part: CorpusPart, held_out: Contamination) -> Iterator[tuple[str, frozenset[str] | None]]:
    """Place and items of each text; None instead of the items if it cannot be read."""
    tail, found, begun = "", frozenset[str](), ""
    for item in read_corpus(part.path, field=part.field, separator=part.separator):
        if isinstance(item, Problem):
            if begun:
                yield begun, found
            yield item.place, None
        else:
            found |= held_out.hits(tail + item.text)
            if item.unfinished:
                tail, begun = item.text[-TAIL:], item.place
                continue
            yield item.place, found
        tail, found, begun = "", frozenset(), ""


def _texts(count: int) -> str:
    return "1 text" if count == 1 else f"{count:,} texts"
