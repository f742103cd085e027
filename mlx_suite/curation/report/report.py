"""A report on one dataset or on two: the page, and the same figures for a program."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlx_suite.curation.report.comparison import Overlap, overlap_of
from mlx_suite.curation.report.figures import Figures, Frame, Tell, figures_of, frame_of
from mlx_suite.curation.report.glance import Line, glance_of
from mlx_suite.curation.report.lengths import spread_of
from mlx_suite.curation.report.page import GENERATOR, render_page
from mlx_suite.curation.report.source import Source, read_source
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically

SAMPLES = 12
"""Rows that the page shows in full, unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was found."""

    frame: Frame
    figures: tuple[Figures, ...]
    """One or two."""
    overlap: Overlap | None
    """Of two."""
    html: str

    @property
    def glance(self) -> tuple[Line, ...]:
        """The figures a reader wants first."""
        return glance_of(self.figures, self.frame)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        overlap = None if self.overlap is None else asdict(self.overlap)
        facts = {
            "unit": self.frame.unit,
            "sizes": self.frame.sizes,
            "datasets": [_facts(each, self.frame) for each in self.figures],
            "overlap": overlap,
            "notes": self.frame.notes,
        }
        return dict(_rounded(facts))


def make_report(
    place: str | Path, other: str | Path | None = None, samples: int = SAMPLES, tell: Tell = lambda done, total: None
) -> Report:
    """Read one dataset, or two to be compared, and measure them.

    Raises UserError where rows cannot be read.
    """
    return report_on([read_source(each) for each in (place, other) if each is not None], samples, tell)


def report_on(sources: Sequence[Source], samples: int = SAMPLES, tell: Tell = lambda done, total: None) -> Report:
    """Measure what has been read. The same rows make the same page, byte by byte."""
    assert 1 <= len(sources) <= 2, "one dataset, or two to be compared"
    if len(sources) == 2 and sources[0].name == sources[1].name:
        sources = [replace(each, name=f"{each.name} ({number})") for number, each in enumerate(sources, start=1)]
    frame = frame_of(sources)
    figures = figures_of(sources, frame, tell)
    overlap = overlap_of(sources[0].rows, sources[1].rows) if len(sources) == 2 else None
    html = render_page(sources, figures, frame, overlap, samples)
    return Report(frame=frame, figures=figures, overlap=overlap, html=html)


def write_report(report: Report, path: Path, *, force: bool = False) -> None:
    """Write the page, whole or not at all. Raises UserError for a file that no report is in, unless forced."""
    check_place(path, force=force)
    write_atomically(path, report.html)


def check_place(path: Path, *, force: bool = False) -> None:
    """Raise UserError where no report may be written: a folder, or a file of something else unless forced."""
    if path.is_dir():
        raise UserError("There is a folder of this name", where=f"--out {path}", fix=f"--out {path / 'report.html'}")
    if path.exists() and not force:
        with path.open("rb") as file:
            head = file.read(1000)
        if head and GENERATOR.encode() not in head:
            raise UserError(
                "There is a file of this name that is no report; it is not replaced",
                where=f"--out {path}",
                fix="choose another name, or give --force",
            )


def _facts(figures: Figures, frame: Frame) -> dict[str, Any]:
    funnel = figures.funnel
    return {
        "name": figures.name,
        "rows": figures.rows,
        "funnel": None
        if funnel is None
        else {
            **asdict(funnel),
            "asked": funnel.asked,
            "tokens": funnel.tokens,
            "tokens_of_rejected_rows": funnel.wasted,
            "tokens_per_row": funnel.tokens_per_row,
            "seconds_per_row": funnel.seconds_per_row,
        },
        "steered": [{**asdict(cost), "tokens_per_row": cost.tokens_per_row} for cost in figures.steered],
        "sampling": [{**asdict(cost), "tokens_per_row": cost.tokens_per_row} for cost in figures.drawn],
        "lengths": {part: _spread(column) for part, column in figures.lengths.items()},
        "shape": asdict(figures.shape),
        "tags": {name: dict(zip(frame.labels[name], counts, strict=True)) for name, counts in figures.counts.items()},
        "category_by_difficulty": None if figures.cross is None else asdict(figures.cross),
        "confidence": [asdict(each) for each in figures.confidences],
        "scores": {name: asdict(spread) for name, spread in figures.scores.items()},
        "quotas": [asdict(quota) for quota in figures.quotas],
        "diversity": [asdict(each) for each in figures.diversity],
        "nearest": [
            {"kind": each.kind, "size": each.size, **asdict(each.spread)}
            for each in figures.neighbourhoods
            if each.spread is not None
        ],
        "map_explains": None if figures.map is None else figures.map.explained,
        "models": figures.provenance.models,
        "sha256": figures.provenance.checksum,
        "unchanged": figures.provenance.is_unchanged,
        "command": figures.provenance.command,
        "notes": figures.notes,
    }


def _spread(column: Sequence[float]) -> dict[str, Any] | None:
    spread = spread_of(column)
    return None if spread is None else asdict(spread)


def _rounded(value: Any) -> Any:
    """Six digits behind the point say all, and do not depend on the order in which a machine adds."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
