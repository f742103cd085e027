"""Steps that choose among rows: those that pass a test, the longest, a sample, no two alike.

A step is asked with the numbers of the rows that are left, ascending, and says which of them go, and why.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mlx_suite.curation.duplicates.words import folded
from mlx_suite.curation.filter.conditions import RowTest
from mlx_suite.curation.filter.fields import Field, length_of, text_of
from mlx_suite.curation.rows import Record
from mlx_suite.text.message import USER

Rows = Sequence[Record]
Vectors = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """Why a row goes."""

    reason: str
    twin: int | None = None
    """The number of the row it is like."""


Drops = Mapping[int, Dropped]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One choice."""

    name: str
    """For the funnel, and the reason of a row that does not fit."""
    drop: Callable[[Sequence[int]], Drops]
    """From the rows that are left to those that go."""


class TextIndex(Protocol):
    """Texts, to find one that is like another (`lexical.py`)."""

    def signature(self, text: str) -> Any:
        """A text as the index compares it."""

    def find(self, text: Any) -> tuple[int, float] | None:
        """The key of a similar one, and how similar it is."""

    def add(self, key: int, text: Any) -> None:
        """Take one in."""


class VectorIndex(Protocol):
    """Vectors, to find the nearest (`neighbours.py`)."""

    def nearest(self, vector: Any) -> tuple[int, float] | None:
        """The key of the nearest one, and its cosine."""

    def add(self, key: int, vector: Any) -> None:
        """Take one in."""


def keep_passing(test: RowTest, rows: Rows) -> Step:
    """The rows that pass; one without the field does not."""
    name = str(test.condition)

    def drop(left: Sequence[int]) -> Drops:
        verdicts = {number: test.passes(rows[number]) for number in left}
        missing = f"no {test.field.name}"
        return {
            number: Dropped(reason=missing if verdict is None else name)
            for number, verdict in verdicts.items()
            if not verdict
        }

    return Step(name=name, drop=drop)


def keep_confident(least: float, tags: Sequence[str], rows: Rows) -> Step:
    """The rows whose tags, these or without any all, have a confidence of at least `least`."""
    name = f"confidence >= {least:g}"

    def problem(row: Record) -> str | None:
        confidences = row.get("confidence", {})
        if any(tag not in confidences for tag in tags) or not confidences:
            return "no confidence"
        return name if min(confidences[tag] for tag in tags or confidences) < least else None

    def drop(left: Sequence[int]) -> Drops:
        found = {number: problem(rows[number]) for number in left}
        return {number: Dropped(reason=reason) for number, reason in found.items() if reason}

    return Step(name=name, drop=drop)


def keep_first_of_copies(rows: Rows) -> Step:
    """The first of rows whose instructions are the same but for case and whitespace."""
    keys = [folded(text_of(row, USER)) for row in rows]

    def drop(left: Sequence[int]) -> Drops:
        first: dict[str, int] = {}
        for number in left:
            first.setdefault(keys[number], number)
        return {
            number: Dropped(reason="duplicate", twin=first[keys[number]])
            for number in left
            if first[keys[number]] != number
        }

    return Step(name="no duplicate", drop=drop)


def keep_first_of_similar_texts(make_index: Callable[[], TextIndex], rows: Rows) -> Step:
    """The first of rows whose instructions are alike word for word, by the index's own threshold."""

    def drop(left: Sequence[int]) -> Drops:
        index = make_index()
        drops = {}
        for number in left:
            signature = index.signature(text_of(rows[number], USER))
            twin = index.find(signature)
            if twin is None:
                index.add(number, signature)
            else:
                drops[number] = Dropped(reason="near_duplicate", twin=twin[0])
        return drops

    return Step(name="no near duplicate", drop=drop)


def keep_first_of_similar_meanings(vectors: Vectors, cosine: float, make_index: Callable[[int], VectorIndex]) -> Step:
    """The first of rows whose vectors, (rows, d), lie within `cosine` of each other."""

    def drop(left: Sequence[int]) -> Drops:
        index = make_index(vectors.shape[1])
        drops = {}
        for number in left:
            vector = vectors[number].astype(np.float32)
            nearest = index.nearest(vector)
            if nearest is not None and nearest[1] >= cosine:
                drops[number] = Dropped(reason="near_meaning", twin=nearest[0])
            else:
                index.add(number, vector)
        return drops

    return Step(name=f"cosine to others < {cosine:g}", drop=drop)


def keep_longest(count: int, rows: Rows) -> Step:
    """The rows with the longest answers: in tokens where every row states them, else in characters."""
    lengths = _lengths(rows)

    def drop(left: Sequence[int]) -> Drops:
        kept = set(sorted(left, key=lambda number: (-lengths[number], number))[:count])
        return {number: Dropped(reason=f"longest {count}") for number in left if number not in kept}

    return Step(name=f"longest {count:,}", drop=drop)


def keep_longest_of_halves(count: int, tests: Sequence[RowTest], rows: Rows) -> Step:
    """For each test an equal share of `count`: the longest rows that pass it. Where one has too few, fewer stay."""
    lengths = _lengths(rows)
    names = [str(test.condition) for test in tests]

    def drop(left: Sequence[int]) -> Drops:
        drops = {number: Dropped(reason=f"neither {' nor '.join(names)}") for number in left}
        for place, (test, name) in enumerate(zip(tests, names, strict=True)):
            share = count // len(tests) + (place < count % len(tests))
            passing = sorted(filter(lambda number: test.passes(rows[number]), left), key=lambda n: (-lengths[n], n))
            drops |= {number: Dropped(reason=f"longest {share} of {name}") for number in passing[share:]}
            for number in passing[:share]:
                drops.pop(number, None)
        return drops

    return Step(name=f"longest {count:,}, in equal parts {' and '.join(names)}", drop=drop)


def keep_sample(count: int, seed: int, rows: Rows) -> Step:
    """Rows drawn by their text and the seed: of more rows most of the same ones are drawn."""

    def drop(left: Sequence[int]) -> Drops:
        kept = set(sorted(left, key=lambda number: (lot(rows[number], seed), number))[:count])
        return {number: Dropped(reason=f"sample {count}") for number in left if number not in kept}

    return Step(name=f"sample of {count:,}", drop=drop)


def keep_per_label(field: Field, count: int, seed: int, rows: Rows) -> Step:
    """At most `count` rows of each label, drawn as a sample is; rows without the field go."""
    name = f"per {field.name}={count}"

    def drop(left: Sequence[int]) -> Drops:
        taken: Counter[Hashable] = Counter()
        drops = {}
        for number in sorted(left, key=lambda number: (lot(rows[number], seed), number)):
            label = field.get(rows[number])
            if label is None:
                drops[number] = Dropped(reason=f"no {field.name}")
            elif taken[label] >= count:
                drops[number] = Dropped(reason=name)
            else:
                taken[label] += 1
        return drops

    return Step(name=name, drop=drop)


def _lengths(rows: Rows) -> list[int]:
    tokens = [row.get("answer_tokens") for row in rows]
    counted = [each for each in tokens if isinstance(each, int)]
    return counted if len(counted) == len(rows) else [length_of(row) for row in rows]


def lot(row: Record, seed: int) -> bytes:
    """Random, and the same for the same conversation."""
    turns = [[message["role"], message["content"]] for message in row["messages"]]
    return hashlib.sha256(f"{seed} {json.dumps(turns)}".encode()).digest()
