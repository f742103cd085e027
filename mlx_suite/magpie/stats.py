"""Results and cost of a run: rows, tokens and seconds, by stage, by reason, and by steering."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mlx_suite.curation.dataset import REJECTED_FILE
from mlx_suite.curation.reasons import STAGES, Stage, stage_of
from mlx_suite.data.questions import TAGGED
from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.engine import EngineStats
from mlx_suite.evaluate.microworld import Truth
from mlx_suite.magpie.plan import RowPlan
from mlx_suite.magpie.records import Draft, Record
from mlx_suite.magpie.steering import Quota
from mlx_suite.runtime.journal import read_journal


@dataclass(kw_only=True)
class Session:
    """One session of work on a folder, from the first token to the last decision. Killed sessions are not recorded."""

    began: str = ""
    seconds: float = 0.0
    """Wall-clock seconds, loading the model excluded."""
    slots: int = 0
    """Rows generated concurrently in each process."""
    processes: int = 1
    """World size. For the other processes only the tokens of finished rows are known, not the engine statistics."""
    rows: int = 0
    """Rows accepted."""
    decided: int = 0
    asking: int = 0
    """Decode steps spent on instructions of finished rows."""
    answering: int = 0
    """Decode steps spent on responses and further turns of finished rows."""
    screening: int = 0
    """Tokens of queries on instructions."""
    grading: int = 0
    """Tokens of queries on responses."""
    aside_seconds: float = 0.0
    """Seconds spent on queries, extrapolated from those that were timed."""
    prefilled: int = 0
    """Tokens prefilled, including those of rows that were not needed."""
    fed: int = 0
    """Forced tokens fed one per decode step, including those of rows that were not needed."""
    sampled: int = 0
    """Tokens sampled, including those of rows that were not needed."""
    busy: float = 1.0
    """Share of slot-steps that worked on a row."""

    @staticmethod
    def of(stored: Mapping[str, Any]) -> "Session":
        """The session in a manifest; unknown keys are ignored."""
        names = {each.name for each in fields(Session)}
        return Session(**{name: value for name, value in stored.items() if name in names})

    def as_dict(self) -> dict[str, Any]:
        """The session for a manifest."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}

    def add_row(self, draft: Draft, plan: RowPlan) -> None:
        """Count the tokens of a finished row."""
        instruction_tokens = draft.instruction_end.tokens
        self.asking += instruction_tokens + 2  # the header's last token and the stop token are steps too
        if draft.response_end is not None:
            self.answering += draft.sampled_tokens - instruction_tokens + 1 + len(plan.pre_query.to_assistant_ids)
        if plan.tagger is not None:
            if draft.tags is not None:
                self.screening += sum(len(query.tokens) for query in plan.tagger.instruction.queries)
            if draft.response_tags is not None:
                self.grading += sum(len(query.tokens) for query in plan.tagger.answer.queries)

    def add_engine(self, counts: EngineStats) -> None:
        """Add the statistics of an engine that has finished."""
        # Rounded as they are read back, so that opening a complete folder leaves its manifest unchanged.
        self.aside_seconds = round(self.aside_seconds + counts.query_seconds, 3)
        self.prefilled += counts.prefilled
        self.fed += counts.forced
        self.sampled += counts.sampled
        self.busy = round(counts.busy, 3)


@dataclass(kw_only=True)
class SteeredCounts:
    """Cost of steering rows to one value."""

    asked: int = 0
    """Rows steered to the value."""
    accepted: int = 0
    """Accepted rows that have the value."""
    tokens: int = 0
    """Tokens sampled for all rows steered to the value."""


@dataclass(kw_only=True)
class Tally:
    """Counts of decided rows, from their records."""

    quotas: tuple[Quota, ...] = ()
    accepted: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    """Tokens of accepted rows: `instruction` and `answer`."""
    rejections: Counter[str] = field(default_factory=Counter)
    """Rejected rows by reason."""
    rejected_tokens: Counter[str] = field(default_factory=Counter)
    """Tokens of rejected rows by reason."""
    met: dict[str, Counter[str]] = field(default_factory=dict)
    """Accepted rows by dimension and value of each quota, whatever they were steered to."""
    steered: dict[str, dict[str, SteeredCounts]] = field(default_factory=dict)
    """Counts of steered rows by dimension and value."""

    @property
    def decided(self) -> int:
        """Rows decided."""
        return self.accepted + self.rejections.total()

    def add(self, record: Mapping[str, Any]) -> None:
        """Count a decided row."""
        tokens = {part: record[f"{part}_tokens"] or 0 for part in ("instruction", "answer")}
        reason = record.get("rejection")
        if reason is None:
            self.accepted += 1
            self.tokens.update(tokens)
            for quota in self.quotas:
                label = record.get("tags" if quota.dimension in TAGGED else "steer", {}).get(quota.dimension)
                self.met.setdefault(quota.dimension, Counter())[quota.value_of(label)] += 1
        else:
            self.rejections[reason] += 1
            self.rejected_tokens[reason] += sum(tokens.values())
        for dimension, value in record.get("steer", {}).items():
            steered = self.steered.setdefault(dimension, {}).setdefault(value, SteeredCounts())
            steered.asked += 1
            steered.tokens += sum(tokens.values())
            steered.accepted += reason is None and self._is_hit(dimension, value, record)

    def _is_hit(self, dimension: str, value: str, record: Mapping[str, Any]) -> bool:
        """Whether a row has the value it was steered to."""
        if dimension not in TAGGED:
            return True
        label = record.get("tags", {}).get(dimension)
        return any(quota.dimension == dimension and quota.value_of(label) == value for quota in self.quotas)

    def remaining(self) -> dict[Stage, int]:
        """Rows that remain after each stage."""
        rejected = Counter(stage_of(reason) for reason in self.rejections.elements())
        remaining, rows = self.decided, {}
        for stage in STAGES:
            remaining -= rejected[stage]
            rows[stage] = remaining
        return rows

    def seconds(self, sessions: Sequence[Session]) -> dict[Stage, float]:
        """Seconds by stage. Time on queries is measured on a sample of them; decode steps get the rest.

        Queries, and decode steps, are divided between their two stages by tokens.
        """
        asking, answering, screening, grading = (
            sum(getattr(session, name) for session in sessions)
            for name in ("asking", "answering", "screening", "grading")
        )
        queries = sum(session.aside_seconds for session in sessions)
        steps = sum(session.seconds for session in sessions) - queries
        parts: dict[Stage, float] = {
            "ask": steps * asking / max(asking + answering, 1),
            "screen": queries * screening / max(screening + grading, 1),
            "answer": steps * answering / max(asking + answering, 1),
            "grade": queries * grading / max(screening + grading, 1),
        }
        return {stage: round(each, 2) for stage, each in parts.items()}

    def as_dict(self) -> dict[str, Any]:
        """The counts for a manifest."""
        return {
            "asked": self.decided,
            "accepted": self.accepted,
            "left": self.remaining(),
            "rejected": dict(self.rejections.most_common()),
            "instruction_tokens": self.tokens["instruction"],
            "answer_tokens": self.tokens["answer"],
            "lost_tokens": dict(self.rejected_tokens.most_common()),
            "quotas": {
                quota.dimension: {
                    value: {"wanted": rows, "accepted": self.met.get(quota.dimension, Counter())[value]}
                    for value, rows in quota.rows.items()
                }
                for quota in self.quotas
            },
            "steered": {
                dimension: {value: asdict(each) for value, each in values.items()}
                for dimension, values in self.steered.items()
            },
        }


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The state of a folder at the end of a run."""

    folder: Path
    tally: Tally
    sessions: tuple[Session, ...]
    """All recorded sessions on the folder."""
    work: Session | None
    """This run's session; None if the folder was already complete."""
    truth: Truth | None
    """The microworld checker's counts; None for other data."""

    @property
    def decided(self) -> int:
        """Rows decided."""
        return self.tally.decided

    @property
    def accepted(self) -> int:
        """Rows accepted."""
        return self.tally.accepted

    @property
    def rejections(self) -> Mapping[str, int]:
        """Rejected rows by reason (`reasons.REASONS`), the most frequent first."""
        return dict(self.tally.rejections.most_common())

    @property
    def accepted_file(self) -> Path:
        """File of the accepted rows."""
        return self.folder / ACCEPTED_FILE

    @property
    def rejected_file(self) -> Path:
        """File of the rejected rows and their reasons."""
        return self.folder / REJECTED_FILE

    def records(self) -> Iterator[Record]:
        """The accepted rows."""
        return read_journal(self.accepted_file)

    @property
    def seconds(self) -> Mapping[Stage, float]:
        """Seconds by stage, over all sessions."""
        return self.tally.seconds(self.sessions)

    @property
    def rows_per_hour(self) -> float:
        """Accepted rows per hour, over all sessions; 0 without any."""
        seconds = sum(session.seconds for session in self.sessions)
        rows = sum(session.rows for session in self.sessions)
        return 3600 * rows / seconds if seconds else 0.0

    @property
    def tokens_per_row(self) -> Mapping[str, float]:
        """Tokens per accepted row: `sampled`, and `read` for prefilled, forced and query tokens."""
        rows = max(sum(session.rows for session in self.sessions), 1)
        sampled = sum(session.sampled for session in self.sessions)
        read = sum(each.prefilled + each.fed + each.screening + each.grading for each in self.sessions)
        return {"sampled": sampled / rows, "read": read / rows}

    def as_dict(self) -> dict[str, Any]:
        """The summary for `--json`."""
        truth = self.truth
        return {
            "folder": str(self.folder),
            "accepted_file": str(self.accepted_file),
            "rejected_file": str(self.rejected_file),
            **self.tally.as_dict(),
            "yield": round(self.accepted / max(self.decided, 1), 4),
            "seconds": self.seconds,
            "accepted_rows_per_hour": round(self.rows_per_hour, 1),
            "tokens_per_accepted_row": {name: round(each, 1) for name, each in self.tokens_per_row.items()},
            "run": None if self.work is None else session_dict(self.work),
            "confirmed": None if truth is None else _truth_dict(truth),
        }


def session_dict(session: Session) -> dict[str, Any]:
    """One session for `--json`."""
    seconds = max(session.seconds, 1e-9)
    return {
        "rows": session.rows,
        "seconds": round(session.seconds, 3),
        "rows_per_second": round(session.rows / seconds, 3),
        "tokens_per_second": round(session.sampled / seconds, 1),
        "slots_busy": round(session.busy, 4),
        "tokens": {
            "prefilled": session.prefilled,
            "fed": session.fed,
            "aside": session.screening + session.grading,
            "sampled": session.sampled,
        },
    }


def _truth_dict(truth: Truth) -> dict[str, Any]:
    counts = {"rows": truth.answers, "recognised": truth.recognised, "right": truth.right}
    return {**counts, "share": round(truth.share, 4)}
