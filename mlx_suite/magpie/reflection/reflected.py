"""Rows on their way through a reflection: what they were, what they are, and what became of each part."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlx_suite.curation.collection import Record
from mlx_suite.magpie.reflection.judging import Verdict
from mlx_suite.magpie.reflection.rewriting import Part, Rewrite
from mlx_suite.magpie.stage import id_of, last_answer, question_of
from mlx_suite.magpie.truth import Verdicts, verdicts_on
from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT, USER

KEPT = "both"
REASONS: Mapping[str, str] = {
    KEPT: "preferred in both orders, and kept",
    "untrusted": "preferred in both orders, by a judge that has not passed its trial",
    "one": "preferred from one place only: the judge goes by the place",
    "old": "the old one was preferred in both orders",
    "unasked": "too long for the judge",
    "unchanged": "the new text is the old one",
    "preface": "the new text speaks of itself",
    "criticism": "the criticism is not whole",
    "text": "the new text is not whole",
    "answer": "the answer to the new instruction is not whole",
    "template": "the model's chat template refuses the conversation",
    "no_answer": "the row has no answer",
}
"""What may become of a part, and what it says; for texts that are not whole a flaw stands behind, as `text_limit`."""
_OF_INSTRUCTION = ("tags", "confidence", "scores", "nearest", "steer", "raw_instruction")
_OF_ANSWER = ("scores",)


@dataclass(frozen=True, kw_only=True)
class Current:
    """A row as it stands."""

    question: tuple[Message, ...]
    answer: str | None
    outcomes: Mapping[str, str]
    """By part that was looked at."""

    @property
    def instruction(self) -> str:
        return self.question[-1].content if self.question else ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one part of all rows."""

    part: str
    rows: int
    reasons: Mapping[str, int]
    """Rows by reason, a flaw's name left out."""
    judged: int
    trial: float | None
    """Share of its trial that the judge passed; None where there was nothing to try it on. Below `trial.PASSED`
    nothing is kept."""
    first_places: int
    """Verdicts, of two for each row that was judged, for what stood first: half of them where places mean nothing."""
    before: Verdicts | None
    """What the microworld says of the rows that were changed, as they were; None for other data or no changes."""
    after: Verdicts | None
    """And as they are."""

    @property
    def kept(self) -> int:
        return self.reasons.get(KEPT, 0)

    @property
    def first_place(self) -> float | None:
        """Share of the verdicts that went to what stood first."""
        return self.first_places / (2 * self.judged) if self.judged else None


@dataclass(frozen=True, kw_only=True)
class Reflected:
    """What a folder has come to."""

    folder: Path
    rows: int
    writer: str
    judge: str
    parts: tuple[Outcome, ...]
    before: Verdicts | None
    """What the microworld says of all rows as they were; None for other data."""
    after: Verdicts | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        parts = [{**asdict(part), "first_place": part.first_place} for part in self.parts]
        return {**asdict(self), "folder": str(self.folder), "parts": parts}


def current_of(record: Record) -> Current:
    """A row as it stands in the data."""
    return Current(question=question_of(record), answer=last_answer(record), outcomes={})


def settled(row: Current, part: Part, rewrite: Rewrite | None, verdict: Verdict | None, trusted: bool) -> Current:
    """The row as it goes on; `trusted` says whether the judge has passed its trial."""
    if rewrite is None:
        reason = "no_answer"
    else:
        reason = rewrite.problem or ("unasked" if verdict is None else verdict.outcome)
        reason = "untrusted" if reason == KEPT and not trusted else reason
    outcomes = {**row.outcomes, part: reason}
    if reason != KEPT or rewrite is None:
        return replace(row, outcomes=outcomes)
    if part == "answer":
        return replace(row, answer=rewrite.text, outcomes=outcomes)
    question = (*row.question[:-1], Message(USER, rewrite.text))
    return Current(question=question, answer=rewrite.answer, outcomes=outcomes)


def outcome_of(
    part: Part,
    before: Sequence[Current],
    after: Sequence[Current],
    verdicts: Mapping[int, Verdict],
    trial: float | None,
) -> Outcome:
    changed = [number for number, row in enumerate(after) if row.outcomes[part] == KEPT]
    reasons = Counter(_reason(row.outcomes[part]) for row in after)
    asked = [verdict for verdict in verdicts.values() if verdict.outcome != "unasked"]
    return Outcome(
        part=part,
        rows=len(after),
        reasons=dict(reasons.most_common()),
        judged=len(asked),
        trial=trial,
        first_places=sum(verdict.first_places for verdict in asked),
        before=truth_of([before[number] for number in changed]),
        after=truth_of([after[number] for number in changed]),
    )


def _reason(outcome: str) -> str:
    """The reason without its flaw."""
    return outcome if outcome in REASONS else outcome.partition("_")[0]


def truth_of(rows: Sequence[Current]) -> Verdicts | None:
    return verdicts_on([(row.question, row.answer) for row in rows if row.answer is not None])


def reflected_record(record: Record, row: Current) -> Record:
    changed = [part for part, reason in row.outcomes.items() if reason == KEPT]
    if not changed:
        return {**record, "reflection": dict(row.outcomes)}
    gone = _OF_INSTRUCTION if "instruction" in changed else _OF_ANSWER
    rest = {name: value for name, value in record.items() if name not in gone and not _counts(name, changed)}
    for name in ("tags", "confidence"):
        if isinstance(rest.get(name), dict):
            rest[name] = {key: value for key, value in rest[name].items() if key != "answer_quality"}
    turns = [*row.question, Message(ASSISTANT, row.answer or "")]
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    return {**rest, "messages": messages, "reflection": dict(row.outcomes), "before": {"messages": record["messages"]}}


def _counts(name: str, changed: Sequence[str]) -> bool:
    """Whether a field tells how a text that is gone ended and how long it was."""
    parts = ("instruction", "answer") if "instruction" in changed else ("answer",)
    return name in {f"{part}_{what}" for part in parts for what in ("reason", "stop", "tokens")}


def refused_record(
    record: Record, row: int, part: Part, reason: str, rewrite: Rewrite | None, verdict: Verdict | None
) -> Record:
    odds = None if verdict is None else [verdict.first, verdict.second]
    return {
        "id": id_of(record, row),
        "row": row,
        "part": part,
        "reason": reason,
        "text": "" if rewrite is None else rewrite.text,
        **({"answer": rewrite.answer} if rewrite is not None and rewrite.answer else {}),
        "criticism": "" if rewrite is None else rewrite.criticism,
        "odds": odds,
    }
