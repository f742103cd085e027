"""The pages of a measured experiment: one HTML file without scripts, and a Markdown page with figures."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mlx_suite.curation.report.lines import line_chart
from mlx_suite.curation.report.report import standalone_svg
from mlx_suite.runtime.files import disk_errors, write_atomically
from mlx_suite.runtime.memory import human_bytes

from .experiment import Experiment, Findings, LabOptions, ResultChart, ResultTable
from .page import Chart, page_template
from .verdict import Result

FIGURES = "figures"
"""Folder beside a Markdown page with the figures of all experiments."""


@dataclass(frozen=True, kw_only=True)
class ExperimentPage:
    """Everything that is shown of an experiment."""

    name: str
    experiment: Experiment
    options: LabOptions
    findings: Findings
    results: Sequence[Result]
    machine: Mapping[str, Any]

    @property
    def command(self) -> str:
        """The command that repeats the run; the user's own files are shown without their folders."""
        words = ["mlx-suite", "lab", self.name, "--out", f"lab/{self.name}"]
        words += ["--quick"] if self.options.quick else []
        words += ["--seeds", str(self.options.seeds)]
        for flag, path in (("--model", self.options.model), ("--text", self.options.text)):
            words += [flag, Path(path).name] if path else []
        return shlex.join(words)

    @property
    def tables(self) -> str:
        """All tables as Markdown."""
        return "\n".join(markdown_table(table) for table in self.findings.tables)

    @property
    def lead(self) -> str:
        """What the results are of, in one line."""
        minutes = sum(result["seconds"] for result in self.results) / 60
        took = f"{minutes:,.0f} minutes" if minutes >= 2 else f"{60 * minutes:,.0f} seconds"
        seeds = len({result["seed"] for result in self.results})
        return f"{len(self.results)} measurements, {seeds} seed{'s' if seeds > 1 else ''}, {took}."

    @property
    def notes(self) -> tuple[str, ...]:
        return ("A quick version: it shows that everything runs, and is too small for a verdict.",) * self.options.quick

    @property
    def made_on(self) -> str:
        """The machine and the versions."""
        machine = self.machine
        where = f"{machine['device']}, {machine['cores']} cores" if machine["kind"] == "cpu" else machine["device"]
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        return f"{where}, {human_bytes(machine['memory_bytes'])} of memory; {versions}"

    @property
    def paragraphs(self) -> list[str]:
        return [" ".join(each.split()) for each in self.experiment.about.split("\n\n")]

    def html(self) -> str:
        """The page as one HTML file."""
        findings = self.findings
        return page_template("experiment.html.jinja").render(
            title=self.experiment.title,
            lead=self.lead,
            tiles=[],
            notes=self.notes,
            paragraphs=self.paragraphs,
            verdict=findings.verdict,
            not_shown=self.experiment.not_shown,
            tables=findings.tables,
            charts=[(Chart(title=each.title, svg=Markup(drawn(each))), each.note) for each in findings.charts],
            machine=self.made_on,
            command=self.command,
        )

    def markdown(self) -> str:
        """The page as Markdown; figures are in a folder beside it."""
        return "\n".join(self._markdown_lines()) + "\n"

    def _markdown_lines(self) -> Iterator[str]:
        yield f"# {self.experiment.title}\n"
        yield f"<!-- Written by: {self.command} --page docs/labs/{self.name}.md -->\n"
        for paragraph in (*self.paragraphs, *(f"**{note}**" for note in self.notes)):
            yield f"{paragraph}\n"
        yield "## Verdict\n"
        for sentence in self.findings.verdict:
            yield f"* {sentence}"
        yield f"\n**Not shown.** {self.experiment.not_shown}\n"
        for table in self.findings.tables:
            yield f"## {table.title}\n"
            yield markdown_table(table, titled=False)
        for chart in self.findings.charts:
            yield f"## {chart.title}\n"
            yield f"![{chart.title}]({FIGURES}/{self.name}-{chart.name}.svg)\n"
            if chart.note:
                yield f"{chart.note}\n"
        yield "## How it was made\n"
        yield f"```sh\n{self.command}\n```\n"
        yield f"{self.lead} {self.made_on}. [Every number]({self.name}.json)."


def drawn(chart: ResultChart) -> str:
    """The chart as SVG."""
    return line_chart(
        chart.lines,
        x_label=chart.x_label,
        y_label=chart.y_label,
        title=chart.title,
        log_x=chart.log_x,
        log_y=chart.log_y,
        from_zero=chart.from_zero,
    )


def markdown_table(table: ResultTable, *, titled: bool = True) -> str:
    """The table as Markdown, with its title as a line above and its note as one below."""
    head = [f"**{table.title}**\n"] if titled else []
    lines = [" | ".join(row) for row in (table.columns, *table.rows)]
    lines.insert(1, "--|" * (len(table.columns) - 1) + "--")
    note = [f"\n{table.note}"] if table.note else []
    return "\n".join([*head, *(f"| {line} |" if i != 1 else f"|{line}|" for i, line in enumerate(lines)), *note]) + "\n"


def write_markdown(page: ExperimentPage, path: Path, results: str) -> None:
    """Write the Markdown page, its figures into a folder beside it, and the results under the experiment's name."""
    figures = path.parent / FIGURES
    with disk_errors(path):
        figures.mkdir(parents=True, exist_ok=True)
    for chart in page.findings.charts:
        write_atomically(figures / f"{page.name}-{chart.name}.svg", standalone_svg(drawn(chart)))
    write_atomically(path.parent / f"{page.name}.json", results)
    write_atomically(path, page.markdown())
