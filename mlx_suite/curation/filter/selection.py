"""Filter steps: keep rows that pass a test, the longest, a sample, or the first of duplicates.

A step takes the indices of the remaining rows, ascending, and returns those to drop, with the reasons.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlx_suite.curation.dataset import Vectors
from mlx_suite.curation.duplicates.words import folded
from mlx_suite.curation.filter.conditions import RowTest
from mlx_suite.curation.filter.fields import Field, length_of, text_of
from mlx_suite.curation.rows import Record
from mlx_suite.data.read.tool_turns import spoken_text
from mlx_suite.text.message import USER

Rows = Sequence[Record]


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """Why a row is dropped."""

    reason: str
    twin: int | None = None
    """Index of the row that it duplicates."""
    place: str | None = None
    """Place of the evaluation's item that it contains."""


Drops = Mapping[int, Dropped]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One filter step."""

    name: str
    """Name in the funnel."""
    drop: Callable[[Sequence[int]], Drops]
    """Maps the indices of the remaining rows to those dropped."""


def keep_passing(test: RowTest, rows: Rows) -> Step:
    """Keep rows that pass a test; a row without the field fails."""
    name = str(test.condition)

    def drop(left: Sequence[int]) -> Drops:
        results = {number: test.passes(rows[number]) for number in left}
        missing = f"no {test.field.name}"
        return {
            number: Dropped(reason=missing if passes is None else name)
            for number, passes in results.items()
            if not passes
        }

    return Step(name=name, drop=drop)


def keep_confident(least: float, tags: Sequence[str], rows: Rows) -> Step:
    """Keep rows in which these tags, or all tags if none are given, have a confidence of at least `least`."""
    name = f"confidence >= {least:g}"

    def problem(row: Record) -> str | None:
        confidences = row.get("confidence", {})
        if any(tag not in confidences for tag in tags) or not confidences:
            return "no confidence"
        return name if min(confidences[tag] for tag in tags or confidences) < least else None

    def drop(left: Sequence[int]) -> Drops:
        problems = {number: problem(rows[number]) for number in left}
        return {number: Dropped(reason=reason) for number, reason in problems.items() if reason}

    return Step(name=name, drop=drop)


def keep_uncontaminated(files: Sequence[str], rows: Rows) -> Step:
    """Keep rows whose instructions and responses contain no item of the evaluation data.

    Raises UserError if the data cannot be read.
    """
    from mlx_suite.curation.duplicates.decontamination import Contamination

    evaluation = Contamination.from_files(files)

    def drop(left: Sequence[int]) -> Drops:
        drops = {}
        for number in left:
            hits = (evaluation.hit(turn["content"]) for turn in rows[number]["messages"] if turn.get("content"))
            place = next(filter(None, hits), None)
            if place is not None:
                drops[number] = Dropped(reason="contaminated", place=place)
        return drops

    return Step(name="not contaminated", drop=drop)


def keep_first_of_copies(rows: Rows) -> Step:
    """Keep the first of rows with the same instructions, ignoring case and whitespace."""
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


def keep_first_of_similar_texts(threshold: float | None, rows: Rows) -> Step:
    """Keep the first of rows whose instructions have a Jaccard similarity of `threshold` or more (None: default)."""

    def drop(left: Sequence[int]) -> Drops:
        from mlx_suite.curation.duplicates.lexical import NEAR_DUPLICATE, LexicalIndex

        index = LexicalIndex(NEAR_DUPLICATE if threshold is None else threshold)
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


def keep_first_of_similar_meanings(vectors: Vectors, cosine: float) -> Step:
    """Keep the first of rows whose vectors (N, d) have a cosine similarity of at least `cosine`."""

    def drop(left: Sequence[int]) -> Drops:
        from mlx_suite.curation.duplicates.neighbours import Neighbours

        index = Neighbours(vectors.shape[1])
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
    """Keep the rows with the longest responses."""
    lengths = _lengths(rows)

    def drop(left: Sequence[int]) -> Drops:
        kept = set(sorted(left, key=lambda number: (-lengths[number], number))[:count])
        return {number: Dropped(reason=f"longest {count}") for number in left if number not in kept}

    return Step(name=f"longest {count:,}", drop=drop)


def keep_longest_of_halves(count: int, tests: Sequence[RowTest], rows: Rows) -> Step:
    """Keep an equal share of `count` per test: the longest rows that pass it, or all if too few pass."""
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
    """Keep a random sample, set by the rows' texts and the seed; it changes little if rows are added."""

    def drop(left: Sequence[int]) -> Drops:
        kept = set(sorted(left, key=lambda number: (random_key(rows[number], seed), number))[:count])
        return {number: Dropped(reason=f"sample {count}") for number in left if number not in kept}

    return Step(name=f"sample of {count:,}", drop=drop)


def keep_per_label(field: Field, count: int, seed: int, rows: Rows) -> Step:
    """Keep a random sample of at most `count` rows per label; rows without the field are dropped."""
    name = f"per {field.name}={count}"

    def drop(left: Sequence[int]) -> Drops:
        taken: Counter[Hashable] = Counter()
        drops = {}
        for number in sorted(left, key=lambda number: (random_key(rows[number], seed), number)):
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
    """Lengths of the responses: in tokens if all rows have counts, otherwise in characters."""
    tokens = [row.get("answer_tokens") for row in rows]
    counted = [each for each in tokens if isinstance(each, int)]
    return counted if len(counted) == len(rows) else [length_of(row) for row in rows]


def random_key(row: Record, seed: int) -> bytes:
    """A random sort key that depends only on the conversation and the seed."""
    turns = [[message["role"], spoken_text(message)] for message in row["messages"]]
    return hashlib.sha256(f"{seed} {json.dumps(turns)}".encode()).digest()
