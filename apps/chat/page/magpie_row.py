"""A row of a Magpie session, as the page shows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlx_suite.curation.reasons import REASONS, stage_of
from mlx_suite.magpie.records import Decision, Draft

RowState = Literal["asking", "screening", "answering", "answered", "accepted", "rejected", "stopped"]
"""`asking`: the model writes the instruction; `screening`: it is checked; `stopped`: the session was, in the middle."""
Part = Literal["instruction", "response"]
Verdict = Literal["keep", "reject"]

DECIDED: tuple[RowState, ...] = ("accepted", "rejected")

EXPLANATIONS: Mapping[str, str] = {**REASONS, "off_quota_category": "the instruction is tagged with another category"}
"""Reasons for rejecting a row. A session has one quota at most: all rows of one category."""


@dataclass(kw_only=True)
class MagpieRow:
    """A row while it is generated, and when it is decided."""

    index: int
    """Row number, from 0."""
    state: RowState = "asking"
    instruction: str = ""
    response: str = ""
    draft: Draft | None = None
    """The finished row; None before."""
    decision: Decision = field(default_factory=Decision)
    complete: bool = False
    """Whether instruction and response both came to their end, so that the row can be kept."""
    verdict: Verdict | None = None
    """A person's verdict, which overrides the decision."""

    @property
    def is_kept(self) -> bool:
        """Whether the row is exported."""
        if self.verdict is None:
            return self.state == "accepted"
        return self.verdict == "keep" and self.complete

    def finish(self, draft: Draft, decision: Decision, *, complete: bool) -> None:
        """Take over the final texts and the decision."""
        self.draft, self.decision, self.complete = draft, decision, complete
        self.instruction, self.response = draft.instruction, draft.response
        self.state = "accepted" if decision.reason is None else "rejected"

    def messages(self) -> list[dict[str, str]]:
        """The row as a conversation."""
        turns = (("user", self.instruction), ("assistant", self.response))
        return [{"role": role, "content": content} for role, content in turns]

    def as_json(self) -> dict[str, Any]:
        """The row for the page."""
        reason = self.decision.reason
        return {
            "index": self.index,
            "state": self.state,
            "instruction": self.instruction,
            "response": self.response,
            "reason": reason,
            "explanation": None if reason is None else EXPLANATIONS.get(reason, reason),
            "stage": None if reason is None else stage_of(reason),
            "duplicate_of": self.decision.duplicate_of,
            "tags": _labels(self.draft),
            "complete": self.complete,
            "verdict": self.verdict,
            "kept": self.is_kept,
        }


def _labels(draft: Draft | None) -> Mapping[str, str]:
    """Labels of the tags, by name."""
    if draft is None:
        return {}
    return {name: tag.label for name, tag in {**(draft.tags or {}), **(draft.response_tags or {})}.items()}
