"""The funnel of a run: rows that reached each stage, reasons for rejection, costs, and quotas met."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.curation.dataset import number_in, object_in
from mlx_suite.curation.reasons import REASONS
from mlx_suite.curation.reasons import stage_of as reason_stage
from mlx_suite.curation.report.counts import label_of
from mlx_suite.curation.rows import Record
from mlx_suite.data.questions import TAGGED
from mlx_suite.data.steering import REST

STAGE_TITLES: Mapping[str, str] = {
    "ask": "instruction",
    "screen": "instruction checks",
    "answer": "response",
    "grade": "response checks",
}
"""Titles of the stages of a run, in order."""
FILTER_TITLES: Mapping[str, str] = {"filter": "filter"}
"""The only stage of a folder written by `magpie filter`."""
NO_REASON = "unknown"
_WRITTEN = {"ask": ("instruction",), "answer": ("answer",), "filter": ("instruction", "answer")}
_READ = ("prefilled", "fed", "screening", "grading")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Rows rejected for one reason."""

    reason: str
    rows: int
    tokens: int
    """Tokens generated for these rows."""


@dataclass(frozen=True, kw_only=True)
class FunnelStage:
    """One stage of the funnel."""

    name: str
    """A key of STAGE_TITLES or FILTER_TITLES."""
    rows: int
    """Rows that reached the stage."""
    tokens: int
    """Tokens generated in the stage: instructions in `ask`, responses in `answer`."""
    seconds: float | None
    """Time spent in the stage; None if the manifest does not record it."""
    losses: tuple[Loss, ...]
    """Rejections, the most frequent reason first."""

    @property
    def lost(self) -> int:
        """Rows rejected in the stage."""
        return sum(loss.rows for loss in self.losses)


@dataclass(frozen=True, kw_only=True)
class Funnel:
    """A run from the first token to the accepted rows."""

    stages: tuple[FunnelStage, ...]
    accepted: int
    seconds: float | None
    """Duration of the run; None if the manifest does not record it."""
    read: int | None
    """Prompt tokens processed, including queries; None if the manifest does not record them."""

    @property
    def asked(self) -> int:
        """Rows generated, accepted or not."""
        return self.stages[0].rows

    @property
    def tokens(self) -> int:
        """Tokens generated for all rows."""
        return sum(stage.tokens for stage in self.stages)

    @property
    def wasted(self) -> int:
        """Tokens generated for rejected rows."""
        return sum(loss.tokens for stage in self.stages for loss in stage.losses)

    @property
    def tokens_per_row(self) -> float | None:
        """Tokens generated per accepted row, including those of rejected rows; None without accepted rows."""
        return self.tokens / self.accepted if self.accepted else None

    @property
    def seconds_per_row(self) -> float | None:
        """Seconds per accepted row."""
        return self.seconds / self.accepted if self.accepted and self.seconds is not None else None

    @property
    def read_per_row(self) -> float | None:
        """Prompt tokens processed per accepted row."""
        return self.read / self.accepted if self.accepted and self.read is not None else None


def funnel_of(accepted: Sequence[Record], rejected: Sequence[Record], manifest: Mapping[str, Any]) -> Funnel:
    """Count a run's rows by stage and reason."""
    is_filter = "filter" in str(manifest.get("kind")) or any(str(row.get("stage")) in FILTER_TITLES for row in rejected)
    names = FILTER_TITLES if is_filter else STAGE_TITLES
    lost: dict[str, dict[str, list[Record]]] = {stage: defaultdict(list) for stage in names}
    for row in rejected:
        lost["filter" if is_filter else stage_of(row)][reason_of(row)].append(row)
    seconds = _stage_seconds(manifest)
    stages, reached = [], len(accepted) + len(rejected)
    for name in names:
        losses = tuple(
            Loss(reason=reason, rows=len(rows), tokens=sum(map(_tokens_of, rows)))
            for reason, rows in lost[name].items()
        )
        stages.append(
            FunnelStage(
                name=name,
                rows=reached,
                tokens=sum(_tokens(row, part) for row in (*accepted, *rejected) for part in _WRITTEN.get(name, ())),
                seconds=seconds.get(name),
                losses=tuple(sorted(losses, key=lambda loss: (-loss.rows, loss.reason))),
            )
        )
        reached -= stages[-1].lost
    return Funnel(
        stages=tuple(stages),
        accepted=len(accepted),
        seconds=sum(seconds.values()) if seconds else None,
        read=_read(manifest),
    )


def stage_of(row: Record) -> str:
    """The stage that rejected a row, inferred from the reason if the row does not name it."""
    stage = str(row.get("stage"))
    if stage in STAGE_TITLES or stage in FILTER_TITLES:
        return stage
    reason = str(row.get("rejection", ""))
    return reason_stage(reason) if reason in REASONS else "screen"


def reason_of(row: Record) -> str:
    """The reason for which a row was rejected."""
    return str(row.get("rejection", NO_REASON))


def _stage_seconds(manifest: Mapping[str, Any]) -> dict[str, float]:
    """Seconds by stage from a manifest, `"seconds": {"ask": 61.2, …}`; stages without a number are left out."""
    seconds = object_in(manifest, "seconds")
    by_stage = {name: number_in(seconds, name) for name in STAGE_TITLES}
    return {name: each for name, each in by_stage.items() if each is not None}


def _read(manifest: Mapping[str, Any]) -> int | None:
    """Prompt tokens, summed over all sessions of work on the folder."""
    work = manifest.get("work")
    sessions = [each for each in work if isinstance(each, Mapping)] if isinstance(work, list) else []
    counts = [number_in(session, name) for session in sessions for name in _READ]
    known = [each for each in counts if each is not None]
    return int(sum(known)) if known else None


def _tokens_of(row: Record) -> int:
    return sum(_tokens(row, part) for part in ("instruction", "answer"))


def _tokens(row: Record, part: str) -> int:
    return int(number_in(row, f"{part}_tokens") or 0)


# ---- costs by steering and by sampling settings


@dataclass(frozen=True, kw_only=True)
class GroupCost:
    """The cost of a group of rows: those steered to one value, or sampled with one setting."""

    kind: str
    asked: int
    accepted: int
    """Accepted rows; if steered to a tag, only those that have it."""
    tokens: int
    """Tokens generated for the group, including its rejected rows."""

    @property
    def tokens_per_row(self) -> float | None:
        """Tokens generated per accepted row."""
        return self.tokens / self.accepted if self.accepted else None


def costs_of(
    accepted: Sequence[Record], rejected: Sequence[Record], groups_of: Callable[[Record], Mapping[str, bool]]
) -> tuple[GroupCost, ...]:
    """The cost of each group, by name.

    Args:
        groups_of: Maps a row to its groups, each with whether the row counts for it if accepted.
    """
    asked: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for rows, is_accepted in ((accepted, True), (rejected, False)):
        for row in rows:
            for group, counts in groups_of(row).items():
                asked[group] += 1
                kept[group] += is_accepted and counts
                tokens[group] += _tokens_of(row)
    return tuple(
        GroupCost(kind=group, asked=asked[group], accepted=kept[group], tokens=tokens[group]) for group in sorted(asked)
    )


def steered_to(quotas: Mapping[str, Any], row: Record) -> Mapping[str, bool]:
    """The steering values of a row, such as `category: Math`, and whether its tag agrees.

    Args:
        quotas: The quotas of the manifest. A row steered to the rest agrees if none of them names its tag.
    """
    tags, steer = object_in(row, "tags"), object_in(row, "steer")

    def agrees(name: str, value: Any) -> bool:
        label = tags.get(name)
        return label not in object_in(quotas, name) if value == REST else label == value

    return {f"{name}: {value}": name not in TAGGED or agrees(name, value) for name, value in steer.items()}


def drawn_with(row: Record) -> Mapping[str, bool]:
    """The sampling settings of a row as a group, such as `temperature 1.2, top_p 0.99`."""
    sampling = object_in(row, "sampling")
    return {", ".join(f"{name} {value}" for name, value in sorted(sampling.items())): True} if sampling else {}


# ---- quotas


@dataclass(frozen=True, kw_only=True)
class QuotaBar:
    """One quota and its progress."""

    dimension: str
    value: str
    """A value of the dimension, or `*` for all values without their own quota."""
    wanted: int
    met: int
    """Accepted rows with this value."""


def quotas_of(rows: Sequence[Record], manifest: Mapping[str, Any]) -> tuple[QuotaBar, ...]:
    """Compare the quotas of a manifest, `"quotas": {"category": {"Math": 60, …}}`, with the accepted rows."""
    bars = []
    for dimension in object_in(manifest, "quotas"):
        quotas = object_in(manifest["quotas"], dimension)
        values = [_value(row, dimension) for row in rows]
        for value, wanted in quotas.items():
            if isinstance(wanted, int):
                others = sum(each not in quotas for each in values)
                met = values.count(value) + (others if value == REST else 0)
                bars.append(QuotaBar(dimension=str(dimension), value=str(value), wanted=wanted, met=met))
    return tuple(bars)


def _value(row: Record, dimension: str) -> str | None:
    """The row's tag; for a dimension without tags (topic, persona), its steering value."""
    label = label_of(row, dimension)
    if label is not None:
        return label
    steered = object_in(row, "steer").get(dimension)
    return None if steered is None else str(steered)
