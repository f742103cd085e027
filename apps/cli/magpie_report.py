"""`mlx-suite magpie report`: one page about a dataset, or about two side by side."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_suite.runtime.progress import Progress

from .flags import AsJson, DataName, Force, Quiet, print_json
from .labelled import show

if TYPE_CHECKING:
    from mlx_suite.curation.report import HtmlReport


TITLE = 24
"""Columns of a figure's name."""
SHORT = 30
"""Longest explanation printed after its figure, in characters; the page has them all."""


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
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one page about a dataset: yield funnel, lengths, tags, embedding map, diversity, sample rows.

    The page is a single HTML file without scripts that opens offline. Two datasets are measured on samples of equal
    size and shown on the same axes, with their overlap.

    Example: `mlx-suite magpie report demo/`
    """
    from mlx_suite.curation.report import check_place, make_report, write_report

    place = out or _usual_place(data, other)
    check_place(place, force=force)
    with ExitStack() as stack:
        bars: list[Progress] = []

        def tell(done: int, total: int) -> None:
            if quiet:
                return
            if not bars:
                bars.append(stack.enter_context(Progress("report", total, unit="samples")))
            bars[0].update(done)

        found = make_report(data, other, sample, tell)
    write_report(found, place, force=force)
    if as_json:
        print_json({**found.as_dict(), "file": str(place)})
        return
    for note in (*found.frame.notes, *(note for each in found.figures for note in each.notes)):
        print(note, file=sys.stderr)
    show(report_lines(found, place))


def report_lines(found: "HtmlReport", place: Path) -> Iterator[tuple[str, str]]:
    """The page in short, a label and a line each."""
    names = [each.name for each in found.figures]
    yield "data", names[0] if len(names) == 1 else f"A {names[0]}, B {names[1]}"
    for figures in found.figures:
        if figures.funnel is not None:
            lost = [(loss.rows, loss.reason) for stage in figures.funnel.stages for loss in stage.losses]
            reasons = ", ".join(f"{rows:,} {reason}" for rows, reason in sorted(lost, reverse=True)[:5])
            yield "left out", reasons or "none"
    for line in found.summary:
        values = "".join(f"{text:>10}" for text in line.texts)
        meaning = f"  {line.meaning}" if 0 < len(line.meaning) <= SHORT else ""
        yield "", f"{line.title:<{TITLE}}{values}{line.difference:>14}{meaning}".rstrip()
    if found.overlap is not None:
        exact, near = found.overlap.exact, found.overlap.near
        yield (
            "overlap",
            f"{exact[0]:,} of A and {exact[1]:,} of B stand in both; nearly so {near[0]:,} of A and {near[1]:,} of B",
        )
    for figures in found.figures:
        short = [quota for quota in figures.quotas if quota.met < quota.wanted]
        for quota in short:
            yield "quota", f"{quota.dimension} {quota.value}: {quota.met:,} of {quota.wanted:,}"
    yield "page", str(place)


def _usual_place(data: str, other: str | None) -> Path:
    if other is not None:
        return Path("comparison.html")
    from mlx_suite.data.read.sources import ACCEPTED_FILE

    folder = Path(data).expanduser()
    return folder / "report.html" if (folder / ACCEPTED_FILE).is_file() else Path("report.html")
