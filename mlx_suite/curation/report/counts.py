"""Counts over rows: lengths, features, tags, confidences and scores.

Lengths are in tokens if every row has token counts of the same model, otherwise in words; in scripts without spaces a
character counts as a word.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlx_suite.curation.dataset import instruction_of, number_in, object_in, response_of, texts_of
from mlx_suite.curation.duplicates.words import words
from mlx_suite.curation.rows import Record
from mlx_suite.curation.tags.full_questions import ANSWER_QUALITIES, CATEGORIES, DIFFICULTIES, INPUT_QUALITIES, SAFETY

TOKENS, WORDS = "tokens", "words"
PARTS = ("instruction", "answer")
UNTAGGED = "no tag"
SCALES: Mapping[str, tuple[str, ...]] = {
    "category": tuple(CATEGORIES),
    "difficulty": tuple(DIFFICULTIES),
    "input_quality": tuple(INPUT_QUALITIES),
    "answer_quality": tuple(ANSWER_QUALITIES),
    "safety": tuple(SAFETY),
}
"""Order of known labels on the page; others follow, the most frequent first."""
DIMENSIONS = ("category", "difficulty", "input_quality", "answer_quality", "language", "safety")
"""Order of known dimensions on the page; others follow by name."""
DOUBT = 0.5
"""Confidence below which a label is a guess: all others together are more probable."""


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """Summary statistics of a column of numbers."""

    count: int
    mean: float
    low: float
    """10th percentile."""
    median: float
    high: float
    """90th percentile."""
    most: float
    """Maximum."""


@dataclass(frozen=True, kw_only=True)
class RowFeatures:
    """Number of rows with each feature."""

    rows: int
    multi_line_instructions: int
    """Rows whose first instruction has several lines."""
    multi_line_answers: int
    with_code: int
    """Rows with a fenced code block in the first instruction or the last response."""
    multi_turn: int
    """Rows with several user turns."""
    with_system: int
    without_answer: int
    cleaned: int
    """Rows whose instruction the sanitiser changed."""


def common_unit(datasets: Sequence[Sequence[Record]]) -> str:
    """TOKENS if one model counted all rows, else WORDS: counts of different tokenizers are not comparable."""
    rows = [row for each in datasets for row in each]
    counted = all(number_in(row, f"{part}_tokens") is not None for row in rows for part in PARTS)
    return TOKENS if rows and counted and len({str(row.get("model")) for row in rows}) == 1 else WORDS


def lengths_of(rows: Sequence[Record], unit: str) -> dict[str, list[float]]:
    """Lengths by part, for the rows that have it; all turns of one role are summed."""
    lengths: dict[str, list[float]] = {part: [] for part in PARTS}
    for row in rows:
        for part, role in zip(PARTS, ("user", "assistant"), strict=True):
            turns = texts_of(row, role)
            if any(turns):
                lengths[part].append(_length(row, part, turns, unit))
    return lengths


def quantiles_of(values: Sequence[float]) -> Quantiles | None:
    """Summary statistics; None without values."""
    if not len(values):
        return None
    low, median, high = np.quantile(values, (0.1, 0.5, 0.9))
    return Quantiles(
        count=len(values),
        mean=float(np.mean(values)),
        low=float(low),
        median=float(median),
        high=float(high),
        most=float(np.max(values)),
    )


def features_of(rows: Sequence[Record]) -> RowFeatures:
    """Count the rows with each feature."""
    return RowFeatures(
        rows=len(rows),
        multi_line_instructions=sum("\n" in instruction_of(row).strip() for row in rows),
        multi_line_answers=sum("\n" in response_of(row).strip() for row in rows),
        with_code=sum("```" in instruction_of(row) or "```" in response_of(row) for row in rows),
        multi_turn=sum(len(texts_of(row, "user")) > 1 for row in rows),
        with_system=sum(bool(texts_of(row, "system")) for row in rows),
        without_answer=sum(not response_of(row) for row in rows),
        cleaned=sum("raw_instruction" in row for row in rows),
    )


def _length(row: Record, part: str, turns: Sequence[str], unit: str) -> float:
    if unit == TOKENS:
        count = number_in(row, f"{part}_tokens")
        assert count is not None, "the unit is common to all rows"
        return count
    return float(sum(len(words(turn)) for turn in turns))


# ---- tags


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """Confidence of one dimension's labels: the probability of the chosen label among all labels."""

    dimension: str
    spread: Quantiles
    doubtful: int
    """Number of labels below DOUBT."""


@dataclass(frozen=True, kw_only=True)
class CrossTable:
    """Rows by category and difficulty."""

    categories: tuple[str, ...]
    difficulties: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    """Counts by category, then by difficulty."""


def label_of(row: Record, dimension: str) -> str | None:
    """The label of a row; None if it has none."""
    label = object_in(row, "tags").get(dimension)
    return label if isinstance(label, str) and label else None


def dimensions_of(datasets: Sequence[Sequence[Record]]) -> tuple[str, ...]:
    """All dimensions in which some row has a label."""
    present = {
        str(name)
        for rows in datasets
        for row in rows
        for name in object_in(row, "tags")
        if label_of(row, name) is not None
    }
    known = tuple(name for name in DIMENSIONS if name in present)
    return (*known, *sorted(present.difference(known)))


def order_of(dimension: str, datasets: Sequence[Sequence[Record]]) -> tuple[str, ...]:
    """All labels that occur, in the order of the page; UNTAGGED is last if some row has none.

    A scale is shown from its lowest used label to its highest, gaps included.
    """
    counts = Counter(label_of(row, dimension) or UNTAGGED for rows in datasets for row in rows)
    untagged = (UNTAGGED,) if counts.pop(UNTAGGED, 0) else ()
    scale = SCALES.get(dimension, ())
    used = [place for place, label in enumerate(scale) if label in counts]
    if dimension == "category":
        known = tuple(label for label in scale if label in counts)
    else:
        known = scale[used[0] : used[-1] + 1] if used else ()
    others = sorted(counts.keys() - set(scale), key=lambda label: (-counts[label], label))
    return (*known, *others, *untagged)


def counts_of(rows: Sequence[Record], dimension: str, order: Sequence[str]) -> tuple[int, ...]:
    """Number of rows with each label, in this order."""
    counts = Counter(label_of(row, dimension) or UNTAGGED for row in rows)
    return tuple(counts[label] for label in order)


def cross_table(rows: Sequence[Record], categories: Sequence[str], difficulties: Sequence[str]) -> CrossTable:
    """Count rows by category and difficulty."""
    counts = Counter((label_of(row, "category") or UNTAGGED, label_of(row, "difficulty") or UNTAGGED) for row in rows)
    return CrossTable(
        categories=tuple(categories),
        difficulties=tuple(difficulties),
        counts=tuple(tuple(counts[category, difficulty] for difficulty in difficulties) for category in categories),
    )


def confidences_of(rows: Sequence[Record], dimensions: Sequence[str]) -> tuple[Confidence, ...]:
    """Confidence statistics of each dimension that has any."""
    columns = {dimension: _column(rows, "confidence", dimension) for dimension in dimensions}
    return tuple(
        Confidence(dimension=dimension, spread=spread, doubtful=sum(value < DOUBT for value in values))
        for dimension, values in columns.items()
        if (spread := quantiles_of(values)) is not None
    )


def scores_of(rows: Sequence[Record]) -> dict[str, Quantiles]:
    """Quantiles of the rows' scores, by name."""
    names = {str(name) for row in rows for name in object_in(row, "scores")}
    spreads = {name: quantiles_of(_column(rows, "scores", name)) for name in sorted(names)}
    return {name: spread for name, spread in spreads.items() if spread is not None}


def _column(rows: Sequence[Record], field: str, name: str) -> list[float]:
    values = (number_in(object_in(row, field), name) for row in rows)
    return [float(value) for value in values if value is not None]
