"""Lengths and features of instructions and responses.

Lengths are in tokens if every row has token counts of the same model, otherwise in words; in scripts without spaces a
character counts as a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlx_suite.curation.dataset import instruction_of, number_in, response_of, texts_of
from mlx_suite.curation.duplicates.words import words
from mlx_suite.curation.rows import Record

TOKENS, WORDS = "tokens", "words"
PARTS = ("instruction", "answer")


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
    """TOKENS or WORDS: tokens only if one model counted them all, as counts of two tokenizers cannot be compared."""
    rows = [row for each in datasets for row in each]
    counted = all(number_in(row, f"{part}_tokens") is not None for row in rows for part in PARTS)
    return TOKENS if rows and counted and len({str(row.get("model")) for row in rows}) == 1 else WORDS


def lengths_of(rows: Sequence[Record], unit: str) -> dict[str, list[float]]:
    """Lengths by part, of each row that has the part; all turns of one role are summed."""
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
