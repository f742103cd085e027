"""Rows shown in full: an even selection of the dataset, and rejected rows by reason."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlx_suite.curation.dataset import instruction_of, number_in, object_in
from mlx_suite.curation.reasons import REASONS
from mlx_suite.curation.report.funnel import reason_of, stage_of
from mlx_suite.curation.rows import Record
from mlx_suite.data.read.tool_turns import spoken_text

LONGEST = 2000
"""Maximum number of characters shown of a turn."""
LONGEST_REJECTED = 400
"""Maximum number of characters shown of a rejected turn: most go wrong in their first words."""
PER_REASON = 3
"""Maximum number of rejected rows shown per reason."""
_FENCED = re.compile(r"^[ \t]*```([^\n`]*)\n(.*?)(?:^[ \t]*```[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class TextBlock:
    """A part of a turn: text or fenced code."""

    text: str
    is_code: bool
    language: str = ""
    """Info string of the opening fence."""


@dataclass(frozen=True, kw_only=True)
class ShownTurn:
    """One turn of a conversation."""

    role: str
    blocks: tuple[TextBlock, ...]
    cut: int = 0
    """Characters not shown."""


@dataclass(frozen=True, kw_only=True)
class ShownRow:
    """One row of the dataset."""

    id: str
    turns: tuple[ShownTurn, ...]
    marks: tuple[tuple[str, str], ...]
    """Names and values of steering, tags, scores and lengths."""
    original: str = ""
    """The instruction of the accepted row that a duplicate repeats."""


@dataclass(frozen=True, kw_only=True)
class RejectedSamples:
    """Rows rejected for one reason."""

    reason: str
    stage: str
    rows: int
    """Total number of rows rejected for this reason."""
    meaning: str
    """Explanation of the reason; empty for an unknown reason."""
    shown: tuple[ShownRow, ...]


def samples_of(rows: Sequence[Record], count: int) -> tuple[ShownRow, ...]:
    """`count` evenly spaced rows; all rows if there are fewer."""
    shown = min(count, len(rows))
    return tuple(_shown_row(rows[at * len(rows) // shown], LONGEST) for at in range(shown))


def rejected_samples(rejected: Sequence[Record], accepted: Sequence[Record]) -> tuple[RejectedSamples, ...]:
    """A few rows for each reason, the most frequent reason first; duplicates with the accepted row they repeat."""
    instructions = {row["id"]: instruction_of(row) for row in accepted if isinstance(row.get("id"), str)}
    by_reason: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for row in rejected:
        by_reason[reason_of(row), stage_of(row)].append(row)
    return tuple(
        RejectedSamples(
            reason=reason,
            stage=stage,
            rows=len(rows),
            meaning=REASONS.get(reason, ""),
            shown=tuple(
                _shown_row(row, LONGEST_REJECTED, instructions.get(str(row.get("duplicate_of")), ""))
                for row in rows[:PER_REASON]
            ),
        )
        for (reason, stage), rows in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    )


def blocks_of(text: str) -> tuple[TextBlock, ...]:
    """Split a text into fenced code and the text around it. An unclosed fence extends to the end."""
    blocks, at = [], 0
    for fence in _FENCED.finditer(text):
        blocks.append(TextBlock(text=text[at : fence.start()].strip("\n"), is_code=False))
        blocks.append(TextBlock(text=fence[2].removesuffix("\n"), is_code=True, language=fence[1].strip()))
        at = fence.end()
    blocks.append(TextBlock(text=text[at:].strip("\n"), is_code=False))
    return tuple(block for block in blocks if block.is_code or block.text.strip())


def _shown_row(row: Record, longest: int, original: str = "") -> ShownRow:
    turns = []
    for turn in row["messages"]:
        text = spoken_text(turn)
        cut = max(len(text) - longest, 0)
        turns.append(ShownTurn(role=str(turn.get("role") or "?"), blocks=blocks_of(text[:longest]), cut=cut))
    return ShownRow(id=str(row.get("id") or ""), turns=tuple(turns), marks=tuple(_marks(row)), original=original)


def _marks(row: Record) -> Iterator[tuple[str, str]]:
    steer, tags, scores, confidences = (object_in(row, key) for key in ("steer", "tags", "scores", "confidence"))
    for name, value in steer.items():
        yield f"steered to {name}", str(value)
    for name, label in tags.items():
        confidence = number_in(confidences, name)
        yield str(name), str(label) if confidence is None else f"{label} {confidence:.2f}"
    for name in scores:
        score = number_in(scores, name)
        yield str(name), str(scores[name]) if score is None else f"{score:.2f}".replace("-", "−")
    cosine = number_in(object_in(row, "nearest"), "cosine")
    if cosine is not None:
        yield "cosine to nearest", f"{cosine:.3f}"
    if row.get("duplicate_of"):
        yield "duplicate of", str(row["duplicate_of"])
    for part, title in (("instruction", "instruction tokens"), ("answer", "response tokens")):
        tokens = number_in(row, f"{part}_tokens")
        if tokens is not None:
            yield title, f"{tokens:,}"
