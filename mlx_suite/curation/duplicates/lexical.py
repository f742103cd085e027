"""In-memory index of near-duplicates by words, used during generation: MinHash finds candidates, the words decide.

The similarity of two texts is the Jaccard similarity |A ∩ B| / |A ∪ B| of their shingles, single words and pairs of
adjacent words. Pairs distinguish "dog bites man" from "man bites dog"; single words keep short texts comparable. If
each text has a number that the other lacks, an operator between operands (x + 1, x - 1) or a form of a name that ends
in symbols (C, C++, C#), their similarity is 0: it is another instruction.

MinHash signatures of P values in B bands (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3) find the
rows that share a band. These are compared word by word, so no row is rejected because of an estimate; a row exactly
at the threshold is missed with a probability of at most 1/200. Results depend only on the rows and their order.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rensa import RMinHash, RMinHashLSH

from mlx_suite.curation.duplicates.words import is_symbol, is_without_spaces, words

NEAR_DUPLICATE = 0.8
"""Default threshold. It finds 23 of 25 handwritten near-duplicates and misjudges 2 of 49 pairs that ask for different
things in similar words, such as "about a dragon" and "about a knight" (`similar_texts.py` in the tests). A threshold of
0.7 finds all 25 and misjudges 8."""
PERMUTATIONS = 120
"""Values per signature; a number with many divisors allows many band widths."""
MISSED = 0.005
"""Maximum probability that two texts exactly at the threshold share no band."""
DOUBT = 0.15
"""Margin below the threshold in which an estimate still has its words compared: four standard deviations."""
LIKELIEST = 64
"""Maximum number of rows compared word by word. More candidates only occur if they follow one template; a row that
reaches the threshold is then almost always among those with the highest estimates."""
SEED = 1
FIRST_ROWS = 1024
"""Initial capacity in rows."""


@dataclass(frozen=True)
class Signature:
    """A text prepared for lookup by `LexicalIndex.signature`."""

    words: str
    """Words separated by single spaces."""
    minhash: RMinHash
    bytes: npt.NDArray[np.uint8]
    """Lowest byte of each MinHash value, (P,): enough for an estimate at a quarter of the memory."""


class LexicalIndex:
    """An index of texts by their words. About 2 kB per row of 40 words.

    Args:
        threshold: Minimum Jaccard similarity of near-duplicates, above 0 and at most 1.
    """

    def __init__(self, threshold: float = NEAR_DUPLICATE) -> None:
        assert 0 < threshold <= 1, "a similarity"
        self.threshold = threshold
        self._bands = RMinHashLSH(threshold, PERMUTATIONS, _bands(threshold))
        self._keys: list[int] = []
        self._words: list[str] = []
        self._bytes = np.empty((FIRST_ROWS, PERMUTATIONS), np.uint8)  # (rows, P)

    def signature(self, text: str) -> Signature:
        """Prepare a text for `find` and `add`, so that it is processed only once."""
        # A text without words still equals itself.
        tokens = words(text) or [" ".join(text.split()).encode(errors="replace").decode()]
        minhash = RMinHash(PERMUTATIONS, SEED)
        minhash.update(shingles(tokens))
        return Signature(" ".join(tokens), minhash, np.array(minhash.digest(), np.uint32).astype(np.uint8))

    def find(self, text: str | Signature) -> tuple[int, float] | None:
        """Key and similarity of the most similar row, the first if tied; None if none reaches the threshold."""
        return max(self.matches(text), key=lambda match: match[1], default=None)

    def matches(
        self, text: str | Signature, skip: Callable[[int], bool] = lambda key: False
    ) -> Iterator[tuple[int, float]]:
        """Yield key and similarity of rows that reach the threshold, at most `LIKELIEST`, in insertion order.

        Args:
            skip: Keys for which it returns True are not compared.
        """
        signature = self._prepared(text)
        for place in self._candidates(signature, skip):
            jaccard = similarity(signature.words, self._words[place])
            if jaccard >= self.threshold:
                yield self._keys[place], jaccard

    def add(self, key: int, text: str | Signature) -> None:
        """Insert a row, even if it has a near-duplicate in the index."""
        row = self._prepared(text)
        place = len(self._keys)
        if place == len(self._bytes):
            self._bytes = np.concatenate([self._bytes, np.empty_like(self._bytes)])
        self._bands.insert(place, row.minhash)
        self._bytes[place] = row.bytes
        self._keys.append(key)
        self._words.append(row.words)

    def __len__(self) -> int:
        return len(self._keys)

    def _candidates(self, signature: Signature, skip: Callable[[int], bool]) -> list[int]:
        """Positions of rows to compare word by word, in order."""
        places = np.sort(np.array(self._bands.query(signature.minhash), np.intp))
        equal = (self._bytes.take(places, axis=0) == signature.bytes).view(np.uint8).sum(axis=1, dtype=np.uint8)
        enough = equal >= (self.threshold - DOUBT) * PERMUTATIONS
        likely = [
            (-estimate, place)
            for estimate, place in zip(equal[enough].tolist(), places[enough].tolist(), strict=True)
            if not skip(self._keys[place])
        ]
        return sorted(place for _, place in sorted(likely)[:LIKELIEST])

    def _prepared(self, text: str | Signature) -> Signature:
        return self.signature(text) if isinstance(text, str) else text


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of two texts whose words are separated by single spaces."""
    if one == other:
        return 1.0
    ours, theirs = one.split(" "), other.split(" ")
    if _each_has_more(_numbers(ours), _numbers(theirs)) or _each_has_more(_operators(ours), _operators(theirs)):
        return 0.0
    bases = {_base(word) for word in (*ours, *theirs) if _base(word) != word}
    forms = [Counter({word for word in text if _base(word) in bases}) for text in (ours, theirs)]
    if bases and _each_has_more(*forms):
        return 0.0
    first, second = set(shingles(ours)), set(shingles(theirs))
    common = len(first & second)
    return common / (len(first) + len(second) - common)


def shingles(tokens: Sequence[str]) -> list[str]:
    """Words, and pairs of adjacent words joined by a space."""
    return [*tokens, *map(" ".join, zip(tokens, tokens[1:], strict=False))]


def _numbers(tokens: Sequence[str]) -> Counter[str]:
    """Counts of words with a digit."""
    return Counter(word for word in tokens if any(map(str.isdigit, word)))


def _operators(tokens: Sequence[str]) -> Counter[str]:
    """Counts of symbols between two operands, numbers or single letters; those within a date are none."""
    found: Counter[str] = Counter()
    for place in range(1, len(tokens) - 1):
        symbol = tokens[place]
        if is_symbol(symbol) and _is_operand(tokens[place - 1]) and _is_operand(tokens[place + 1]):
            around = tokens[max(0, place - 3) : place + 4]
            if not any(_is_date(around[begin : begin + 5], symbol) for begin in range(len(around) - 4)):
                found[symbol] += 1
    return found


def _is_operand(word: str) -> bool:
    return word.isdecimal() or (len(word) == 1 and word.isalpha() and not is_without_spaces(word))


def _is_date(words: Sequence[str], symbol: str) -> bool:
    """Whether five words are three numbers between two equal symbols, as in 2024-07-26."""
    return words[1] == words[3] == symbol and all(word.isdecimal() for word in words[::2])


def _base(word: str) -> str:
    """The word without the symbols at the end of a name."""
    return word if is_symbol(word) else word.rstrip("+#")


def _each_has_more(one: Counter[str], other: Counter[str]) -> bool:
    """Whether each of two texts has something that the other lacks."""
    return bool(one - other) and bool(other - one)


def _bands(threshold: float) -> int:
    """The smallest number of bands that meets MISSED: fewer bands give fewer candidates."""
    for width in range(PERMUTATIONS, 0, -1):
        bands = PERMUTATIONS // width
        if PERMUTATIONS % width == 0 and (1 - threshold**width) ** bands <= MISSED:
            return bands
    return PERMUTATIONS
