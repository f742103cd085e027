"""Near-duplicates by their words, found in memory while rows are made: MinHash finds candidates, the words decide.

Two texts are as alike as their shingles, single words and pairs of neighbours, have in common: |A ∩ B| / |A ∪ B|. Pairs
tell "dog bites man" from "man bites dog", single words keep texts of a few words comparable. Texts of which each has a
number that the other lacks are not alike at all: another number is another question.

MinHash signatures of P values in B bands (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3) name the
rows that share a band. Those are compared word for word, so nothing is called a duplicate by an estimate; a row
exactly at the threshold is missed once in 200 times at most. What is found depends on the rows and their order alone.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rensa import RMinHash, RMinHashLSH

from mlx_suite.curation.duplicates.words import words

NEAR_DUPLICATE = 0.8
"""The default threshold. Of 25 pairs written by hand that say the same it finds 23; of 49 that ask for something else
in much the same words it takes 3 for the same, the shortest "in C" and "in C++" (`similar_texts.py` in the tests). At
0.7 it finds all 25, and takes 10 of the others."""
PERMUTATIONS = 120
"""Values of a signature. Many numbers divide it, and so many widths of a band can be chosen."""
MISSED = 0.005
"""Chance that no band of two texts exactly at the threshold is the same."""
DOUBT = 0.15
"""How far below the threshold an estimate may lie for the words to be compared: four standard deviations."""
LIKELIEST = 64
"""Rows whose words are compared at most. Where there are more, all are made from one template, and what reaches the
threshold is nearly always among those with the highest estimates."""
SEED = 1
FIRST_ROWS = 1024
"""Rows that there is room for at first."""


@dataclass(frozen=True)
class Signature:
    """A text as it is looked up. Made by `LexicalIndex.signature`."""

    words: str
    """With one space between them."""
    minhash: RMinHash
    bytes: npt.NDArray[np.uint8]
    """The lowest byte of each of its values, (P,): enough to estimate by, and a quarter of the memory to go through."""


class LexicalIndex:
    """Texts by the words in them. About 2 kB per row of 40 words.

    Args:
        threshold: From which similarity on two texts are near-duplicates, above 0 and up to 1.
    """

    def __init__(self, threshold: float = NEAR_DUPLICATE) -> None:
        assert 0 < threshold <= 1, "a similarity"
        self.threshold = threshold
        self._bands = RMinHashLSH(threshold, PERMUTATIONS, _bands(threshold))
        self._keys: list[int] = []
        self._words: list[str] = []
        self._bytes = np.empty((FIRST_ROWS, PERMUTATIONS), np.uint8)  # of each row

    def signature(self, text: str) -> Signature:
        """Serves `find` and `add`, so that a text that is looked up and then added is taken apart once."""
        # What has no words is still equal to itself.
        found = words(text) or [" ".join(text.split()).encode(errors="replace").decode()]
        minhash = RMinHash(PERMUTATIONS, SEED)
        minhash.update(shingles(found))
        return Signature(" ".join(found), minhash, np.array(minhash.digest(), np.uint32).astype(np.uint8))

    def find(self, text: str | Signature) -> tuple[int, float] | None:
        """Key and similarity of the row most like it, the first of several; None if none reaches the threshold."""
        return max(self.matches(text), key=lambda match: match[1], default=None)

    def matches(
        self, text: str | Signature, skip: Callable[[int], bool] = lambda key: False
    ) -> Iterator[tuple[int, float]]:
        """Key and similarity of all rows that reach the threshold, `LIKELIEST` at most, in the order of their adding.

        Rows whose keys are to be skipped are not compared; by default none is.
        """
        given = self._taken_apart(text)
        for place in self._candidates(given, skip):
            alike = similarity(given.words, self._words[place])
            if alike >= self.threshold:
                yield self._keys[place], alike

    def add(self, key: int, text: str | Signature) -> None:
        """Put a row in, whether or not one like it is there."""
        row = self._taken_apart(text)
        place = len(self._keys)
        if place == len(self._bytes):
            self._bytes = np.concatenate([self._bytes, np.empty_like(self._bytes)])
        self._bands.insert(place, row.minhash)
        self._bytes[place] = row.bytes
        self._keys.append(key)
        self._words.append(row.words)

    def __len__(self) -> int:
        return len(self._keys)

    def _candidates(self, given: Signature, skip: Callable[[int], bool]) -> list[int]:
        """Places of rows worth a comparison, in order."""
        places = np.sort(np.array(self._bands.query(given.minhash), np.intp))
        equal = (self._bytes.take(places, axis=0) == given.bytes).view(np.uint8).sum(axis=1, dtype=np.uint8)
        enough = equal >= (self.threshold - DOUBT) * PERMUTATIONS
        likely = [
            (-estimate, place)
            for estimate, place in zip(equal[enough].tolist(), places[enough].tolist(), strict=True)
            if not skip(self._keys[place])
        ]
        return sorted(place for _, place in sorted(likely)[:LIKELIEST])

    def _taken_apart(self, text: str | Signature) -> Signature:
        return self.signature(text) if isinstance(text, str) else text


def similarity(one: str, other: str) -> float:
    """Of two texts whose words are separated by single spaces, from 0 to 1."""
    if one == other:
        return 1.0
    ours, theirs = one.split(" "), other.split(" ")
    numbers, others = _numbers(ours), _numbers(theirs)
    if numbers - others and others - numbers:
        return 0.0
    first, second = set(shingles(ours)), set(shingles(theirs))
    common = len(first & second)
    return common / (len(first) + len(second) - common)


def shingles(found: Sequence[str]) -> list[str]:
    """Words, and pairs of words with a space between them."""
    return [*found, *map(" ".join, zip(found, found[1:], strict=False))]


def _numbers(found: Sequence[str]) -> Counter[str]:
    """Words with a digit, and how often each is there."""
    return Counter(word for word in found if any(map(str.isdigit, word)))


def _bands(threshold: float) -> int:
    """The fewest bands with which hardly a row at the threshold is missed: fewer bands, fewer candidates."""
    for width in range(PERMUTATIONS, 0, -1):
        bands = PERMUTATIONS // width
        if PERMUTATIONS % width == 0 and (1 - threshold**width) ** bands <= MISSED:
            return bands
    return PERMUTATIONS
