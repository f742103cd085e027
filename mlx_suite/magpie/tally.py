"""What a run has come to and what it has cost: rows, tokens and seconds by stage, by reason, and by what steered."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mlx_suite.curation.reasons import STAGES, Stage, stage_of
from mlx_suite.data.questions import TAGGED
from mlx_suite.engine import EngineStats
from mlx_suite.magpie.draft import Draft
from mlx_suite.magpie.row import Plan
from mlx_suite.magpie.steering import Quota

Record = Mapping[str, Any]


@dataclass(kw_only=True)
class Session:
    """One stretch of work on a folder, from the first token to the last decision. A killed one is not known."""

    began: str = ""
    seconds: float = 0.0
    """Loading the model not included."""
    slots: int = 0
    processes: int = 1
    """That worked side by side. Of the others the tokens of finished rows are known, not what their engines did."""
    rows: int = 0
    """Rows accepted."""
    decided: int = 0
    asking: int = 0
    """Tokens of steps that wrote instructions, of finished rows."""
    answering: int = 0
    """The same of answers and further turns."""
    screening: int = 0
    """Tokens of questions about instructions."""
    grading: int = 0
    """Tokens of questions about answers."""
    aside_seconds: float = 0.0
    """Spent on questions, as those took that were timed."""
    prefilled: int = 0
    """These and the next are what the engine did, rows that were begun and not needed included."""
    fed: int = 0
    sampled: int = 0
    busy: float = 1.0
    """Share of the slot-steps that served a row."""

    @staticmethod
    def of(stored: Mapping[str, Any]) -> "Session":
        """From a manifest; what it does not know is left out."""
        names = {each.name for each in fields(Session)}
        return Session(**{name: value for name, value in stored.items() if name in names})

    def as_dict(self) -> dict[str, Any]:
        """For a manifest."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}

    def finished(self, draft: Draft, plan: Plan) -> None:
        """Count what a row has cost."""
        self.asking += draft.asked.tokens + 2  # the header's last token and the stop token are steps as well
        if draft.answered is not None:
            self.answering += draft.written - draft.asked.tokens + 1 + len(plan.pre_query.to_assistant_ids)
        if plan.tagger is not None:
            if draft.tags is not None:
                self.screening += sum(len(query.tokens) for query in plan.tagger.instruction.queries)
            if draft.answer_tags is not None:
                self.grading += sum(len(query.tokens) for query in plan.tagger.answer.queries)

    def ended(self, counts: EngineStats) -> None:
        """Add what an engine has done."""
        # Rounded as it will be read again: a folder that is only counted keeps its manifest.
        self.aside_seconds = round(self.aside_seconds + counts.aside_seconds, 3)
        self.prefilled += counts.prefilled
        self.fed += counts.ridden
        self.sampled += counts.sampled
        self.busy = round(counts.busy, 3)


@dataclass(kw_only=True)
class Steered:
    """What one value has cost to which rows were steered."""

    asked: int = 0
    accepted: int = 0
    """Accepted rows that were what they were steered to."""
    tokens: int = 0
    """Written for all rows asked."""


@dataclass(kw_only=True)
class Tally:
    """Decided rows, counted from their records."""

    quotas: tuple[Quota, ...] = ()
    accepted: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    """Of accepted rows: `instruction` and `answer`."""
    rejections: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    """Tokens of rejected rows, by reason."""
    steered: dict[str, dict[str, Steered]] = field(default_factory=dict)
    """By dimension and value."""

    @property
    def asked(self) -> int:
        """Rows that are decided."""
        return self.accepted + self.rejections.total()

    def decided(self, record: Record) -> None:
        """Count a row."""
        written = {part: record[f"{part}_tokens"] or 0 for part in ("instruction", "answer")}
        reason = record.get("rejection")
        if reason is None:
            self.accepted += 1
            self.tokens.update(written)
        else:
            self.rejections[reason] += 1
            self.lost[reason] += sum(written.values())
        for dimension, value in record.get("steer", {}).items():
            steered = self.steered.setdefault(dimension, {}).setdefault(value, Steered())
            steered.asked += 1
            steered.tokens += sum(written.values())
            steered.accepted += reason is None and self._is(dimension, value, record)

    def _is(self, dimension: str, value: str, record: Record) -> bool:
        """Whether a row is what it was steered to."""
        if dimension not in TAGGED:
            return True
        found = record.get("tags", {}).get(dimension)
        return any(quota.dimension == dimension and quota.value_of(found) == value for quota in self.quotas)

    def left(self) -> dict[Stage, int]:
        """Rows that were left behind each stage."""
        gone = Counter(stage_of(reason) for reason in self.rejections.elements())
        left, rows = self.asked, {}
        for stage in STAGES:
            left -= gone[stage]
            rows[stage] = left
        return rows

    def seconds(self, sessions: Sequence[Session]) -> dict[Stage, float]:
        """Seconds by stage: those of the questions are measured on a part of them, the others go by the steps' tokens.

        Within the questions, and within the steps, seconds are dealt by tokens.
        """
        asking, answering, screening, grading = (
            sum(getattr(session, name) for session in sessions)
            for name in ("asking", "answering", "screening", "grading")
        )
        aside = sum(session.aside_seconds for session in sessions)
        steps = sum(session.seconds for session in sessions) - aside
        parts: dict[Stage, float] = {
            "ask": steps * asking / max(asking + answering, 1),
            "screen": aside * screening / max(screening + grading, 1),
            "answer": steps * answering / max(asking + answering, 1),
            "grade": aside * grading / max(screening + grading, 1),
        }
        return {stage: round(each, 2) for stage, each in parts.items()}

    def as_dict(self) -> dict[str, Any]:
        """For a manifest."""
        return {
            "asked": self.asked,
            "accepted": self.accepted,
            "left": self.left(),
            "rejected": dict(self.rejections.most_common()),
            "instruction_tokens": self.tokens["instruction"],
            "answer_tokens": self.tokens["answer"],
            "lost_tokens": dict(self.lost.most_common()),
            "steered": {
                dimension: {value: asdict(each) for value, each in values.items()}
                for dimension, values in self.steered.items()
            },
        }
