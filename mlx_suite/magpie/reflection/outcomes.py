"""Rows during reflection, the outcome of each part, and the summary of a folder."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlx_suite.curation.rows import Record
from mlx_suite.data.read.tool_turns import spoken_text
from mlx_suite.evaluate.microworld import Truth, check_responses
from mlx_suite.magpie.reflection.judging import Preference
from mlx_suite.magpie.reflection.rewriting import Part, Rewrite
from mlx_suite.magpie.stage import final_response, id_of, prompt_of
from mlx_suite.text import Message
from mlx_suite.text.message import ASSISTANT, USER

KEPT = "both"
REASONS: Mapping[str, str] = {
    KEPT: "preferred in both orders, kept",
    "untrusted": "preferred in both orders, but by a judge that failed its sanity check",
    "one": "preferred in one position only: the judge goes by position",
    "old": "the old one was preferred in both orders",
    "unasked": "too long for the judge",
    "unchanged": "the new text is the same as the old one",
    "preface": "the new text comments on itself",
    "criticism": "the criticism is incomplete",
    "text": "the new text is incomplete",
    "answer": "the response to the new instruction is incomplete",
    "template": "the model's chat template refuses the conversation",
    "no_answer": "the row has no response",
}
"""Outcomes of a part, each with its explanation. An incomplete text has its flaw appended, as in `text_limit`."""
_OF_INSTRUCTION = ("tags", "confidence", "scores", "nearest", "steer", "raw_instruction")
_OF_ANSWER = ("scores",)


@dataclass(frozen=True, kw_only=True)
class ReflectedRow:
    """A row's current messages, and the outcomes so far."""

    question: tuple[Message, ...]
    answer: str | None
    outcomes: Mapping[str, str]
    """Outcome by part."""

    @property
    def instruction(self) -> str:
        return self.question[-1].content if self.question else ""


@dataclass(frozen=True, kw_only=True)
class Reflection:
    """The outcome of one part over all rows."""

    part: str
    rows: int
    reasons: Mapping[str, int]
    """Number of rows by outcome, without the flaw's name."""
    judged: int
    trial: float | None
    """Share of its sanity check that the judge passed; None if there was nothing to check it on. Below
    `judging.PASS_SHARE` nothing is kept."""
    first_places: int
    """How often the first position was preferred, of two judgements per row judged. An unbiased judge gives half."""
    before: Truth | None
    """The microworld checker's counts for the changed rows' old texts; None for other data, or without changes."""
    after: Truth | None
    """The microworld checker's counts for the changed rows' new texts."""

    @property
    def kept(self) -> int:
        return self.reasons.get(KEPT, 0)

    @property
    def first_place(self) -> float | None:
        """Share of the judgements in favour of the first position."""
        return self.first_places / (2 * self.judged) if self.judged else None


@dataclass(frozen=True, kw_only=True)
class ReflectSummary:
    """Summary of a folder of reflected rows."""

    folder: Path
    rows: int
    writer: str
    judge: str
    parts: tuple[Reflection, ...]
    before: Truth | None
    """The microworld checker's counts for all rows before reflection; None for other data."""
    after: Truth | None

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        parts = [{**asdict(part), "first_place": part.first_place} for part in self.parts]
        return {**asdict(self), "folder": str(self.folder), "parts": parts}


def row_of(record: Record) -> ReflectedRow:
    """Convert a record of the data, without outcomes yet."""
    return ReflectedRow(question=prompt_of(record), answer=final_response(record), outcomes={})


def settled(
    row: ReflectedRow, part: Part, rewrite: Rewrite | None, preference: Preference | None, trusted: bool
) -> ReflectedRow:
    """Return the row after one part; `trusted` says whether the judge passed its sanity check."""
    if rewrite is None:
        reason = "no_answer"
    else:
        reason = rewrite.problem or ("unasked" if preference is None else preference.outcome)
        reason = "untrusted" if reason == KEPT and not trusted else reason
    outcomes = {**row.outcomes, part: reason}
    if reason != KEPT or rewrite is None:
        return replace(row, outcomes=outcomes)
    if part == "answer":
        return replace(row, answer=rewrite.text, outcomes=outcomes)
    question = (*row.question[:-1], Message(USER, rewrite.text))
    return ReflectedRow(question=question, answer=rewrite.answer, outcomes=outcomes)


def reflection_of(
    part: Part,
    before: Sequence[ReflectedRow],
    after: Sequence[ReflectedRow],
    preferences: Mapping[int, Preference],
    trial: float | None,
) -> Reflection:
    """Count the outcomes of one part."""
    changed = [number for number, row in enumerate(after) if row.outcomes[part] == KEPT]
    reasons = Counter(_reason(row.outcomes[part]) for row in after)
    judged = [each for each in preferences.values() if each.outcome != "unasked"]
    return Reflection(
        part=part,
        rows=len(after),
        reasons=dict(reasons.most_common()),
        judged=len(judged),
        trial=trial,
        first_places=sum(each.first_places for each in judged),
        before=truth_of([before[number] for number in changed]),
        after=truth_of([after[number] for number in changed]),
    )


def _reason(outcome: str) -> str:
    """The outcome without its flaw."""
    return outcome if outcome in REASONS else outcome.partition("_")[0]


def truth_of(rows: Sequence[ReflectedRow]) -> Truth | None:
    return check_responses([(row.question, row.answer) for row in rows if row.answer is not None])


def reflected_record(record: Record, row: ReflectedRow) -> Record:
    """The row of accepted.jsonl. Tags, scores and counts of a replaced text are removed."""
    changed = [part for part, reason in row.outcomes.items() if reason == KEPT]
    if not changed:
        return {**record, "reflection": dict(row.outcomes)}
    stale = _OF_INSTRUCTION if "instruction" in changed else _OF_ANSWER
    rest = {name: value for name, value in record.items() if name not in stale and not _is_count(name, changed)}
    for name in ("tags", "confidence"):
        if isinstance(rest.get(name), dict):
            rest[name] = {key: value for key, value in rest[name].items() if key != "answer_quality"}
    turns = [*row.question, Message(ASSISTANT, row.answer or "")]
    olds = [*record["messages"], *[{}] * len(turns)]
    messages = [_turn(turn, old) for turn, old in zip(turns, olds, strict=False)]
    return {**rest, "messages": messages, "reflection": dict(row.outcomes), "before": {"messages": record["messages"]}}


def _turn(turn: Message, old: Mapping[str, Any]) -> Mapping[str, Any]:
    """A turn as it was, with its reasoning, or as it is rewritten, without."""
    same = old.get("role") == turn.role and spoken_text(old) == turn.content
    return old if same else {"role": turn.role, "content": turn.content}


def _is_count(name: str, changed: Sequence[str]) -> bool:
    """Whether a field holds the length or the stop reason of a replaced text."""
    parts = ("instruction", "answer") if "instruction" in changed else ("answer",)
    return name in {f"{part}_{what}" for part in parts for what in ("reason", "stop", "tokens")}


def refused_record(
    record: Record, row: int, part: Part, reason: str, rewrite: Rewrite | None, preference: Preference | None
) -> Record:
    """The row of refused.jsonl."""
    odds = None if preference is None else [preference.first, preference.second]
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
