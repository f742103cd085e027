"""What two datasets have in common: the same instructions, nearly the same ones, and the same whole rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlx_suite.curation.dataset import instruction_of, response_of
from mlx_suite.curation.duplicates.lexical import LexicalIndex
from mlx_suite.curation.duplicates.words import folded
from mlx_suite.curation.rows import Record

SHOWN = 5
"""Pairs of nearly the same instructions that are shown."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An instruction of A and one of B that is nearly the same."""

    first: str
    second: str
    similarity: float
    """Of their words, from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Numbers of rows of either dataset that the other has too."""

    exact: tuple[int, int]
    """Rows of A, and of B, whose instruction stands in the other, case and whitespace aside."""
    near: tuple[int, int]
    """Rows whose instruction does not, but one nearly like it."""
    whole: tuple[int, int]
    """Of the exact ones, rows with the same answer too."""
    pairs: tuple[Pair, ...]
    """Of nearly the same instructions, the least similar first: they show how near is near."""


def overlap_of(first: Sequence[Record], second: Sequence[Record], tell: Callable[[], None] = lambda: None) -> Overlap:
    """Compare every row with all of the other dataset; `tell` is called a few times along the way."""
    texts = ([instruction_of(row) for row in first], [instruction_of(row) for row in second])
    keys = tuple([folded(text) for text in each] for each in texts)
    exact = tuple(_inside(keys[side], set(keys[1 - side])) for side in (0, 1))
    wholes = tuple(
        [(key, folded(response_of(row))) for key, row in zip(keys[side], rows, strict=True)]
        for side, rows in enumerate((first, second))
    )
    near: list[int] = []
    pairs: list[Pair] = []
    for side in (0, 1):
        found = _near(texts[side], exact[side], texts[1 - side])
        near.append(len(found))
        pairs = pairs or found
        tell()
    return Overlap(
        exact=(sum(exact[0]), sum(exact[1])),
        near=(near[0], near[1]),
        whole=(sum(_inside(wholes[0], set(wholes[1]))), sum(_inside(wholes[1], set(wholes[0])))),
        pairs=tuple(sorted(pairs, key=lambda pair: (pair.similarity, pair.first))[:SHOWN]),
    )


def _inside(keys: Sequence[object], others: set[object]) -> list[bool]:
    return [key in others for key in keys]


def _near(texts: Sequence[str], is_exact: Sequence[bool], others: Sequence[str]) -> list[Pair]:
    index = LexicalIndex()
    for number, text in enumerate(others):
        index.add(number, text)
    found = []
    for text, known in zip(texts, is_exact, strict=True):
        hit = None if known else index.find(text)
        if hit is not None:
            found.append(Pair(first=text, second=others[hit[0]], similarity=hit[1]))
    return found
