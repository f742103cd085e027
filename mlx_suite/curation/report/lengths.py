"""How long instructions and answers are, and in what.

Tokens where every row says how many it has and one model counted them all; else words, which are characters in scripts
that put no spaces between words.
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
class Spread:
    """A column of numbers in short."""

    count: int
    mean: float
    low: float
    """A tenth of the values are below."""
    median: float
    high: float
    """A tenth of the values are above."""
    most: float


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What rows look like, as numbers of rows."""

    rows: int
    multi_line_instructions: int
    """Whose first instruction has more than one line."""
    multi_line_answers: int
    with_code: int
    """With a fenced block of code on either side."""
    multi_turn: int
    """With more than one instruction."""
    with_system: int
    without_answer: int
    cleaned: int
    """Whose instruction the sanitiser has changed."""


def common_unit(datasets: Sequence[Sequence[Record]]) -> str:
    """In what the rows of all datasets can be measured alike: tokens of two tokenizers cannot be compared."""
    rows = [row for each in datasets for row in each]
    counted = all(number_in(row, f"{part}_tokens") is not None for row in rows for part in PARTS)
    return TOKENS if rows and counted and len({str(row.get("model")) for row in rows}) == 1 else WORDS


def lengths_of(rows: Sequence[Record], unit: str) -> dict[str, list[float]]:
    """By part, the length of each row that has the part: of a conversation, of all turns of one side together."""
    found: dict[str, list[float]] = {part: [] for part in PARTS}
    for row in rows:
        for part, role in zip(PARTS, ("user", "assistant"), strict=True):
            turns = texts_of(row, role)
            if any(turns):
                found[part].append(_length(row, part, turns, unit))
    return found


def spread_of(values: Sequence[float]) -> Spread | None:
    """None where there are no values."""
    if not len(values):
        return None
    low, median, high = np.quantile(values, (0.1, 0.5, 0.9))
    return Spread(
        count=len(values),
        mean=float(np.mean(values)),
        low=float(low),
        median=float(median),
        high=float(high),
        most=float(np.max(values)),
    )


def shape_of(rows: Sequence[Record]) -> Shape:
    """Count what rows look like."""
    return Shape(
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
