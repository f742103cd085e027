"""A report on one dataset or two: an HTML page, and the same figures as JSON.

The page is one file that works offline and without scripts. The template escapes all text from models and users; as a
second defence, a content security policy forbids the page to load anything.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mlx_suite.curation.report.charts import bars_of, distance_charts, heat_maps, length_charts, map_chart
from mlx_suite.curation.report.counts import quantiles_of
from mlx_suite.curation.report.figures import (
    DatasetFigures,
    Frame,
    OnProgress,
    Source,
    figures_of,
    frame_of,
    read_source,
)
from mlx_suite.curation.report.funnel import FILTER_TITLES, STAGE_TITLES
from mlx_suite.curation.report.neighbours import Overlap, overlap_of
from mlx_suite.curation.report.samples import rejected_samples, samples_of
from mlx_suite.curation.report.summary import SummaryLine, diversity_lines, feature_lines, formatted, summary_of
from mlx_suite.curation.report.svg import HUES
from mlx_suite.curation.set_aside import set_aside_facts
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically

SAMPLES = 12
"""Default number of rows that the page shows in full."""
GENERATOR = "mlx-suite magpie report"
"""Marker in the head of every page, by which a report is recognised before it is replaced."""
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that HTML forbids or that cannot be displayed."""


@dataclass(frozen=True, kw_only=True)
class HtmlReport:
    """The figures and the page."""

    frame: Frame
    figures: tuple[DatasetFigures, ...]
    """One or two datasets."""
    overlap: Overlap | None
    """Rows shared by two datasets; None for a single dataset."""
    html: str

    @property
    def summary(self) -> tuple[SummaryLine, ...]:
        """The lines at the head of the page."""
        return summary_of(self.figures, self.frame)

    def as_dict(self) -> dict[str, Any]:
        """JSON object; floats are rounded to six decimals."""
        facts = {
            "unit": self.frame.unit,
            "sizes": self.frame.sizes,
            "datasets": [_facts(each, self.frame) for each in self.figures],
            "overlap": None if self.overlap is None else asdict(self.overlap),
            "notes": self.frame.notes,
        }
        return dict(_rounded(facts))


def make_report(
    place: str | Path,
    other: str | Path | None = None,
    samples: int = SAMPLES,
    on_progress: OnProgress = lambda done, total: None,
    *,
    strict: bool = False,
) -> HtmlReport:
    """Read and measure one dataset, or compare two.

    Rows that cannot be read are left out and counted, unless `strict`. Raises UserError if none can be read.
    """
    sources = [read_source(each, strict=strict) for each in (place, other) if each is not None]
    return report_on(sources, samples, on_progress)


def report_on(
    sources: Sequence[Source], samples: int = SAMPLES, on_progress: OnProgress = lambda done, total: None
) -> HtmlReport:
    """Measure one or two datasets. The same rows give the same page, byte for byte."""
    assert 1 <= len(sources) <= 2, "one dataset, or two to compare"
    if len(sources) == 2 and sources[0].name == sources[1].name:
        sources = [replace(each, name=f"{each.name} ({number})") for number, each in enumerate(sources, start=1)]
    frame = frame_of(sources)
    figures = figures_of(sources, frame, on_progress)
    overlap = overlap_of(sources[0].rows, sources[1].rows) if len(sources) == 2 else None
    html = _render_page(sources, figures, frame, overlap, samples)
    return HtmlReport(frame=frame, figures=figures, overlap=overlap, html=html)


def write_report(report: HtmlReport, path: Path, *, force: bool = False) -> None:
    """Write the page atomically. Raises UserError for a file that is not a report, unless forced."""
    check_place(path, force=force)
    write_atomically(path, report.html)


def check_place(path: Path, *, force: bool = False) -> None:
    """Raise UserError for a folder or, without `force`, for a file that is not a report."""
    if path.is_dir():
        raise UserError("A folder with this name exists", where=f"--out {path}", fix=f"--out {path / 'report.html'}")
    if path.exists() and not force:
        with path.open("rb") as file:
            head = file.read(1000)
        if head and GENERATOR.encode() not in head:
            raise UserError(
                "A file with this name exists and is not a report",
                where=f"--out {path}",
                fix="choose another name, or give --force",
            )


def _render_page(
    sources: Sequence[Source], figures: Sequence[DatasetFigures], frame: Frame, overlap: Overlap | None, samples: int
) -> str:
    page = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            generator=GENERATOR,
            style=page_style(),
            stages={**STAGE_TITLES, **FILTER_TITLES},
            figures=figures,
            frame=frame,
            overlap=overlap,
            letters="AB",
            summary=summary_of(figures, frame),
            features=feature_lines(figures),
            lengths=length_charts(figures, frame),
            bars={name: bars_of(figures, frame, name) for name in frame.dimensions},
            heat=heat_maps(figures) if figures[0].cross else (),
            map=map_chart(sources, figures, frame),
            distances=distance_charts(figures),
            diversity=[diversity_lines(figures, place) for place in range(len(frame.sizes))],
            samples=[samples_of(source.rows, samples) for source in sources],
            rejected=[rejected_samples(source.rejected or (), source.rows) for source in sources],
            notes=(*frame.notes, *(f"{each.name}: {note}" for each in figures for note in each.notes)),
        )
    )
    return _NO_TEXT.sub("\ufffd", page.replace("\r\n", "\n").replace("\r", "\n"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mlx_suite.curation.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"form": _form, "percent": lambda share: _form(share, ".1%"), "words": _words}
    return environment


def page_style() -> Markup:
    """The style sheet of the report, for other pages that look like it."""
    return Markup(_environment().get_template("style.css").render(hues=HUES))


def standalone_svg(svg: str) -> str:
    """A chart of the report as the content of an SVG file: with the colours of the page, and its background."""
    style = _environment().get_template("charts.css").render(hues=HUES)
    extra = "svg { background: var(--paper); font-family: system-ui, sans-serif; }"
    head, end, rest = svg.partition(">")
    assert head.startswith("<svg ")
    return f'<svg xmlns="http://www.w3.org/2000/svg" {head[5:]}{end}<style>\n{style}{extra}\n</style>{rest}\n'


def _form(value: float | None, form: str = ",") -> str:
    return formatted(value, form)


def _words(name: str) -> str:
    """Replace underscores by spaces: `near_duplicate` is shown as `near duplicate`."""
    return name.replace("_", " ")


def _facts(figures: DatasetFigures, frame: Frame) -> dict[str, Any]:
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
        "lengths": {part: _quantiles(column) for part, column in figures.lengths.items()},
        "shape": asdict(figures.features),
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
        "set_aside": set_aside_facts(figures.set_aside),
        "notes": figures.notes,
    }


def _quantiles(column: Sequence[float]) -> dict[str, Any] | None:
    quantiles = quantiles_of(column)
    return None if quantiles is None else asdict(quantiles)


def _rounded(value: Any) -> Any:
    """Round floats to six decimals, so that the order of summation does not matter."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
