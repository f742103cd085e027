"""The funnel: how many rows came to each stage, why rows were left out there, and what that cost."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.curation.dataset import number_in, object_in
from mlx_suite.curation.reasons import REASONS
from mlx_suite.curation.reasons import stage_of as reason_stage
from mlx_suite.curation.rows import Record
from mlx_suite.data.questions import TAGGED
from mlx_suite.data.steering import REST

DONE: Mapping[str, str] = {"ask": "asked", "screen": "screened", "answer": "answered", "grade": "graded"}
"""By the stages of a run, what was done with the rows that came there."""
FILTERED: Mapping[str, str] = {"filter": "filtered"}
"""Of a folder that `magpie filter` has made."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Rows that were left out for one reason."""

    reason: str
    rows: int
    tokens: int
    """That had been written for them."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage."""

    name: str
    """One of DONE, or of FILTERED."""
    rows: int
    """That came here."""
    tokens: int
    """Written here: instructions where they are asked for, answers where they are given."""
    seconds: float | None
    """Spent here, where the manifest says it."""
    losses: tuple[Loss, ...]
    """The most frequent first."""

    @property
    def lost(self) -> int:
        """Rows that went no further."""
        return sum(loss.rows for loss in self.losses)


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """A run from the first token to the accepted rows."""

    stages: tuple[Stage, ...]
    accepted: int
    seconds: float | None
    """Of the whole run, where the manifest says it."""
    read: int | None
    """Tokens the model was given, questions included, where the manifest says it."""

    @property
    def asked(self) -> int:
        """Rows that were begun."""
        return self.stages[0].rows

    @property
    def tokens(self) -> int:
        """Written for all rows."""
        return sum(stage.tokens for stage in self.stages)

    @property
    def wasted(self) -> int:
        """Tokens that were written for rows that were left out."""
        return sum(loss.tokens for stage in self.stages for loss in stage.losses)

    @property
    def tokens_per_row(self) -> float | None:
        """Written for each accepted row, those of the rejected ones included; None without accepted rows."""
        return self.tokens / self.accepted if self.accepted else None

    @property
    def seconds_per_row(self) -> float | None:
        """For each accepted row."""
        return self.seconds / self.accepted if self.accepted and self.seconds is not None else None

    @property
    def read_per_row(self) -> float | None:
        """Tokens read for each accepted row."""
        return self.read / self.accepted if self.accepted and self.read is not None else None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the rows of one kind came to: those steered to one value, or drawn under one setting."""

    kind: str
    asked: int
    accepted: int
    """Of those that were steered, as far as tags tell: accepted, and what they were steered to."""
    tokens: int
    """Written for all of them."""

    @property
    def tokens_per_row(self) -> float | None:
        """For each accepted one."""
        return self.tokens / self.accepted if self.accepted else None


def funnel_of(accepted: Sequence[Record], rejected: Sequence[Record], manifest: Mapping[str, Any]) -> Funnel:
    """Count a run's rows by stage and reason."""
    is_filtered = "filter" in str(manifest.get("kind")) or any(str(row.get("stage")) in FILTERED for row in rejected)
    names = FILTERED if is_filtered else DONE
    lost: dict[str, dict[str, list[Record]]] = {stage: defaultdict(list) for stage in names}
    for row in rejected:
        lost["filter" if is_filtered else stage_of(row)][str(row.get("rejection", "not said"))].append(row)
    seconds = stage_seconds(manifest)
    stages, here = [], len(accepted) + len(rejected)
    for name in names:
        losses = tuple(
            Loss(reason=reason, rows=len(rows), tokens=sum(map(tokens_of, rows))) for reason, rows in lost[name].items()
        )
        stages.append(
            Stage(
                name=name,
                rows=here,
                tokens=sum(_tokens(row, part) for row in (*accepted, *rejected) for part in _WRITTEN.get(name, ())),
                seconds=seconds.get(name),
                losses=tuple(sorted(losses, key=lambda loss: (-loss.rows, loss.reason))),
            )
        )
        here -= stages[-1].lost
    return Funnel(
        stages=tuple(stages),
        accepted=len(accepted),
        seconds=sum(seconds.values()) if seconds else None,
        read=_read(manifest),
    )


def stage_of(row: Record) -> str:
    """Where a row was left out; told from the reason where the row does not say."""
    stage = str(row.get("stage"))
    if stage in DONE or stage in FILTERED:
        return stage
    reason = str(row.get("rejection", ""))
    return reason_stage(reason) if reason in REASONS else "screen"


def tokens_of(row: Record) -> int:
    """All that was written for a row."""
    return sum(_tokens(row, part) for part in ("instruction", "answer"))


def costs_of(
    accepted: Sequence[Record], rejected: Sequence[Record], kinds_of: Callable[[Record], Mapping[str, bool]]
) -> tuple[Cost, ...]:
    """What each kind came to, in the order of the kinds.

    `kinds_of` gives the kinds of a row, and whether it counts for each if it is accepted.
    """
    asked: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for rows, is_accepted in ((accepted, True), (rejected, False)):
        for row in rows:
            for kind, is_it in kinds_of(row).items():
                asked[kind] += 1
                kept[kind] += is_accepted and is_it
                tokens[kind] += tokens_of(row)
    return tuple(Cost(kind=kind, asked=asked[kind], accepted=kept[kind], tokens=tokens[kind]) for kind in sorted(asked))


def steered_to(quotas: Mapping[str, Any], row: Record) -> Mapping[str, bool]:
    """What a row was steered to, `category: Math`, and whether it is tagged as that.

    Args:
        quotas: Of the manifest. A row that was steered to the rest is what none of them names.
    """
    tags, steer = object_in(row, "tags"), object_in(row, "steer")

    def is_it(name: str, value: Any) -> bool:
        label = tags.get(name)
        return label not in object_in(quotas, name) if value == REST else label == value

    return {f"{name}: {value}": name not in TAGGED or is_it(name, value) for name, value in steer.items()}


def drawn_with(row: Record) -> Mapping[str, bool]:
    """The settings a row was drawn with: `temperature 1.2, top_p 0.99`."""
    sampling = object_in(row, "sampling")
    return {", ".join(f"{name} {value}" for name, value in sorted(sampling.items())): True} if sampling else {}


def stage_seconds(manifest: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by stage, where the manifest has them: `"seconds": {"ask": 61.2, …}`."""
    seconds = object_in(manifest, "seconds")
    found = {name: number_in(seconds, name) for name in DONE}
    return {name: each for name, each in found.items() if each is not None}


_WRITTEN = {"ask": ("instruction",), "answer": ("answer",), "filter": ("instruction", "answer")}
_READ = ("prefilled", "fed", "screening", "grading")


def _read(manifest: Mapping[str, Any]) -> int | None:
    """Of all stretches of work."""
    work = manifest.get("work")
    sessions = [each for each in work if isinstance(each, Mapping)] if isinstance(work, list) else []
    found = [number_in(session, name) for session in sessions for name in _READ]
    known = [each for each in found if each is not None]
    return int(sum(known)) if known else None


def _tokens(row: Record, part: str) -> int:
    return int(number_in(row, f"{part}_tokens") or 0)
