"""`mlx-suite magpie report`: one page about a dataset, or a comparison of two."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .flags import AsJson, DataName, Force, Quiet, Split, Strict, print_json
from .output import progress_lines, show

if TYPE_CHECKING:
    from mlx_suite.curation.report import HtmlReport


TITLE = 24
"""Columns of a metric's name."""
SHORT = 30
"""Longest explanation to print, in characters; the page has all of them."""


def report(
    data: DataName,
    other: Annotated[
        str | None, typer.Argument(metavar="[OTHER]", help="A second dataset, to compare with.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Output file. Default: report.html in the run's folder; comparison.html here for two.",
        ),
    ] = None,
    sample: Annotated[int, typer.Option("--sample", min=0, metavar="N", help="Number of rows shown in full.")] = 12,
    force: Force = False,
    split: Split = "",
    strict: Strict = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one page about a dataset: yield funnel, lengths, tags, embedding map, diversity, sample rows.

    The page is a single HTML file without scripts that opens offline. Two datasets are measured on samples of equal
    size and shown on the same axes, with their overlap.

    Example: `mlx-suite magpie report demo/`
    """
    from mlx_suite.curation.report import check_place, make_report, write_report

    place = out or _default_place(data, other)
    check_place(place, force=force)
    with progress_lines("samples", quiet) as update:
        page = make_report(
            data, other, sample, lambda done, total: update("report", done, total), strict=strict, split=split
        )
    write_report(page, place, force=force)
    if as_json:
        print_json({**page.as_dict(), "file": str(place)})
        return
    for note in (*page.frame.notes, *(note for each in page.figures for note in each.notes)):
        print(note, file=sys.stderr)
    show(report_lines(page, place))


def report_lines(page: "HtmlReport", place: Path) -> Iterator[tuple[str, str]]:
    """Summary of the page: (label, text) lines."""
    names = [each.name for each in page.figures]
    yield "data", names[0] if len(names) == 1 else f"A {names[0]}, B {names[1]}"
    for figures in page.figures:
        if figures.funnel is not None:
            lost = [(loss.rows, loss.reason) for stage in figures.funnel.stages for loss in stage.losses]
            reasons = ", ".join(f"{rows:,} {reason}" for rows, reason in sorted(lost, reverse=True)[:5])
            yield "rejected", reasons or "none"
    for line in page.summary:
        values = "".join(f"{text:>10}" for text in line.texts)
        meaning = f"  {line.meaning}" if 0 < len(line.meaning) <= SHORT else ""
        yield "", f"{line.title:<{TITLE}}{values}{line.difference:>14}{meaning}".rstrip()
    if page.overlap is not None:
        exact, near = page.overlap.exact, page.overlap.near
        yield (
            "overlap",
            f"{exact[0]:,} of A and {exact[1]:,} of B are in both; near-duplicates: {near[0]:,} of A, {near[1]:,} of B",
        )
    for figures in page.figures:
        for quota in figures.quotas:
            if quota.met < quota.wanted:
                yield "quota", f"{quota.dimension} {quota.value}: {quota.met:,} of {quota.wanted:,}"
    yield "page", str(place)


def _default_place(data: str, other: str | None) -> Path:
    if other is not None:
        return Path("comparison.html")
    from mlx_suite.data.read.sources import ACCEPTED_FILE

    folder = Path(data).expanduser()
    return folder / "report.html" if (folder / ACCEPTED_FILE).is_file() else Path("report.html")
