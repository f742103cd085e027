"""A corpus in shards of bounded size, so that one larger than memory can be converted.

Every shard is chained, written and de-duplicated by itself before the next one is read. A first pass over the corpus
counts the texts and finds the unreadable ones, and its checksum of every shard shows later if the corpus has changed.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from mlx_suite.data.corpus.documents import CorpusText
from mlx_suite.data.read.records import Problem
from mlx_suite.runtime.errors import UserError, shortened

SHARD_TEXTS = 1024
"""Maximum texts of a shard."""
SHARD_CHARACTERS = 1 << 22
"""Characters after which a shard ends."""
ReadTexts = Callable[[], Iterator[CorpusText | Problem]]
"""Reads the corpus from its start."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Consecutive texts of a corpus."""

    number: int
    start: int
    """Index of its first text in the corpus."""
    texts: tuple[CorpusText, ...]

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that depend on every text."""
        digest = hashlib.sha256()
        for each in self.texts:
            content = each.text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "big") + content)
        return digest.hexdigest()[:12]

    def chosen(self, share: float, seed: int) -> frozenset[int]:
        """Indices in the corpus of the texts to convert: `share` of those that are not blank."""
        candidates = [self.start + place for place, each in enumerate(self.texts) if each.text.strip()]
        rng = Random(f"share {seed} {self.number}")
        return frozenset(rng.sample(candidates, round(share * len(candidates))))


@dataclass(frozen=True, kw_only=True)
class Census:
    """What a first pass over a corpus found."""

    texts: int
    characters: int
    unreadable: int
    digests: tuple[str, ...]
    """Of every shard."""
    places: tuple[str, ...]
    """Place of the first text of every shard."""

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that depend on every text."""
        return hashlib.sha256("".join(self.digests).encode()).hexdigest()[:12]


class CorpusShards:
    """The shards of a corpus, read from its start as often as needed.

    Args:
        limit: Use only this many texts.
        size: Maximum texts of a shard.
    """

    def __init__(self, read: ReadTexts, *, name: str = "", limit: int | None = None, size: int = SHARD_TEXTS) -> None:
        self.read, self.name, self.limit, self.size = read, name, limit, size

    def shards(self, problems: list[Problem] | None = None) -> Iterator[Shard]:
        """Yield the shards in order; unreadable texts are skipped, and appended to `problems`."""
        number = start = characters = 0
        held: list[CorpusText] = []
        for text in self._texts([] if problems is None else problems):
            held.append(text)
            characters += len(text.text)
            if len(held) == self.size or characters >= SHARD_CHARACTERS:
                yield Shard(number=number, start=start, texts=tuple(held))
                number, start, characters, held = number + 1, start + len(held), 0, []
        if held:
            yield Shard(number=number, start=start, texts=tuple(held))

    def census(self, *, skip_bad: bool = False, tell: Callable[[int], None] = lambda texts: None) -> Census:
        """Read the whole corpus once.

        Args:
            skip_bad: Count unreadable texts instead of refusing them.
            tell: Called with the number of texts read so far.

        Raises UserError that lists unreadable texts, or if there are none at all.
        """
        problems: list[Problem] = []
        texts = characters = 0
        digests, places = [], []
        for shard in self.shards(problems):
            texts += len(shard.texts)
            characters += sum(len(each.text) for each in shard.texts)
            digests.append(shard.digest)
            places.append(shard.texts[0].place)
            tell(texts)
        if problems and not skip_bad:
            raise unreadable(problems, self.name)
        if not texts:
            raise UserError("The corpus has no texts", where=self.name, fix="name a file or folder with texts")
        return Census(
            texts=texts,
            characters=characters,
            unreadable=len(problems),
            digests=tuple(digests),
            places=tuple(places),
        )

    def checked(self, census: Census) -> Iterator[Shard]:
        """Yield the shards, and raise UserError before one that has changed since `census`."""
        count = 0
        for shard in self.shards():
            if count == len(census.digests) or shard.digest != census.digests[count]:
                raise self._changed(shard.texts[0].place)
            count += 1
            yield shard
        if count < len(census.digests):
            raise self._changed(census.places[count])

    def _texts(self, problems: list[Problem]) -> Iterator[CorpusText]:
        count = 0
        for text in self.read():
            if isinstance(text, Problem):
                problems.append(text)
                continue
            if count == self.limit:
                return
            count += 1
            yield text

    def _changed(self, place: str) -> UserError:
        return UserError(
            "The corpus changed while it was read; what was written so far is kept",
            where=f"{self.name}, at {place}" if self.name else place,
            fix="restore it and run the same command again, or choose another folder with --out",
        )


def unreadable(problems: Sequence[Problem], where: str) -> UserError:
    """One error for all unreadable texts."""
    count = len(problems)
    return UserError(
        "A text of the corpus cannot be read" if count == 1 else f"{count:,} texts of the corpus cannot be read",
        where=where,
        fix="correct them, or leave them out with --skip-bad",
        details=shortened(problems),
    )
