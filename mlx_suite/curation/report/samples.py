"""Rows to be read: spread evenly over a dataset, with code told from text, and what was rejected, by reason."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlx_suite.curation.dataset import instruction_of, number_in, object_in
from mlx_suite.curation.reasons import REASONS
from mlx_suite.curation.report.funnel import stage_of
from mlx_suite.curation.rows import Record

LONGEST = 2000
"""Characters of a turn that are shown."""
LONGEST_REJECTED = 400
"""Of a rejected row: most are wrong in their first words or their length."""
PER_REASON = 3
"""Rejected rows of each reason that are shown."""
_FENCED = re.compile(r"^[ \t]*```([^\n`]*)\n(.*?)(?:^[ \t]*```[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A part of a turn."""

    text: str
    is_code: bool
    language: str = ""
    """What stands behind the opening fence."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one side said."""

    role: str
    passages: tuple[Passage, ...]
    cut: int = 0
    """Characters that are not shown."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A row to be read."""

    id: str
    turns: tuple[Turn, ...]
    marks: tuple[tuple[str, str], ...]
    """Names and values of tags and scores, and of what the row was steered to."""
    like: str = ""
    """The instruction that it repeats, of a duplicate."""


@dataclass(frozen=True, kw_only=True)
class RejectedSamples:
    """Rows that were left out for one reason."""

    reason: str
    stage: str
    rows: int
    """All of them."""
    meaning: str
    """Of the reason; empty for one that is not known."""
    shown: tuple[Sample, ...]


def samples_of(rows: Sequence[Record], count: int) -> tuple[Sample, ...]:
    """`count` rows at equal distances; all where there are no more."""
    shown = min(count, len(rows))
    return tuple(_sample(rows[at * len(rows) // shown], LONGEST) for at in range(shown))


def rejected_samples(rejected: Sequence[Record], accepted: Sequence[Record]) -> tuple[RejectedSamples, ...]:
    """A few rows of each reason, the most frequent reason first; duplicates with the accepted row they repeat."""
    twins = {row["id"]: instruction_of(row) for row in accepted if isinstance(row.get("id"), str)}
    by_reason: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for row in rejected:
        by_reason[str(row.get("rejection", "not said")), stage_of(row)].append(row)
    return tuple(
        RejectedSamples(
            reason=reason,
            stage=stage,
            rows=len(rows),
            meaning=REASONS.get(reason, ""),
            shown=tuple(
                _sample(row, LONGEST_REJECTED, twins.get(str(row.get("duplicate_of")), "")) for row in rows[:PER_REASON]
            ),
        )
        for (reason, stage), rows in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0]))
    )


def passages_of(text: str) -> tuple[Passage, ...]:
    """Fenced code apart from the text around it. A block without an end goes to the end."""
    found, at = [], 0
    for block in _FENCED.finditer(text):
        found.append(Passage(text=text[at : block.start()].strip("\n"), is_code=False))
        found.append(Passage(text=block[2].removesuffix("\n"), is_code=True, language=block[1].strip()))
        at = block.end()
    found.append(Passage(text=text[at:].strip("\n"), is_code=False))
    return tuple(passage for passage in found if passage.is_code or passage.text.strip())


def _sample(row: Record, longest: int, like: str = "") -> Sample:
    turns = []
    for turn in row["messages"]:
        text = str(turn.get("content") or "")
        cut = max(len(text) - longest, 0)
        turns.append(Turn(role=str(turn.get("role") or "?"), passages=passages_of(text[:longest]), cut=cut))
    return Sample(id=str(row.get("id") or ""), turns=tuple(turns), marks=tuple(_marks(row)), like=like)


def _marks(row: Record) -> Iterator[tuple[str, str]]:
    steer, tags, scores, confidence = (object_in(row, key) for key in ("steer", "tags", "scores", "confidence"))
    for name, value in steer.items():
        yield f"steered to {name}", str(value)
    for name, label in tags.items():
        sure = number_in(confidence, name)
        yield str(name), str(label) if sure is None else f"{label} {sure:.2f}"
    for name in scores:
        score = number_in(scores, name)
        yield str(name), str(scores[name]) if score is None else f"{score:.2f}".replace("-", "−")
    cosine = number_in(object_in(row, "nearest"), "cosine")
    if cosine is not None:
        yield "nearest", f"{cosine:.3f}"
    if row.get("duplicate_of"):
        yield "like", str(row["duplicate_of"])
    for part in ("instruction", "answer"):
        tokens = number_in(row, f"{part}_tokens")
        if tokens is not None:
            yield f"{part} tokens", f"{tokens:,}"
