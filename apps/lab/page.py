"""The page of a lab: verdict, table, curves, ledger; one HTML file without scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from mlx_suite.curation.report.lines import Line, LinePoint, line_chart
from mlx_suite.curation.report.report import page_style
from mlx_suite.curation.report.svg import HUES
from mlx_suite.runtime.resume import as_json

from .people import ASKED, GROUPS, NOT_ASKED, OPEN_BOOK, OTHERS
from .recipe import ARMS, LabRecipe, trials_of
from .verdict import CONTROL, Measure, Result, Spread, by_arm, measures, sweep_of, verdict


@dataclass(frozen=True, kw_only=True)
class Chart:
    title: str
    svg: Markup


@dataclass(frozen=True, kw_only=True)
class Section:
    """Charts under a heading."""

    title: str
    note: str
    charts: tuple[Chart, ...]


def render_page(results: Sequence[Result], recipe: LabRecipe, baseline: Mapping[str, float]) -> str:
    """The page of the results so far; `baseline` is the majority baseline by group of questions."""
    columns, groups = measures(recipe), by_arm(results, recipe)
    trials = trials_of(recipe)
    page: str = page_template("page.html.jinja").render(
        title=recipe.title,
        lead=f"{len(groups)} arms, {recipe.training.tokens:,} tokens each, {recipe.seeds} seeds.",
        tiles=_tiles(results, recipe),
        notes=[] if len(results) == len(trials) else [f"{len(results)} of {len(trials)} trials are finished."],
        verdict=verdict(results, recipe, baseline) if groups else [],
        columns=columns,
        rows=[
            {
                "arm": arm,
                "explained": ARMS[arm],
                "cells": [column.shown(column.spread(each)) for column in columns],
            }
            for arm, each in groups.items()
        ],
        baseline=_baseline_cells(columns, baseline) if len(columns) > 1 else [],
        groups=list(GROUPS.items()) if len(columns) > 1 else [],
        charts=[section for section in (_tuning(groups, recipe), _sweep(results, recipe)) if section],
        ledger=_ledger(groups),
        recipe=yaml.safe_dump(_plain(as_json(asdict(recipe))), sort_keys=False, allow_unicode=True),
    )
    return page


def page_template(name: str) -> Template:
    """A template of this folder, in the style of the reports."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(name, globals={"style": page_style()})


def table_text(results: Sequence[Result], recipe: LabRecipe, baseline: Mapping[str, float]) -> str:
    """The table of arms as Markdown."""
    columns = measures(recipe)
    lines = [
        "| arm | " + " | ".join(column.name for column in columns) + " |",
        "|--|" + "--|" * len(columns),
    ]
    for arm, each in by_arm(results, recipe).items():
        lines.append(f"| {arm} | " + " | ".join(column.shown(column.spread(each)) for column in columns) + " |")
    if len(columns) > 1:
        lines.append("| most frequent answer | " + " | ".join(_baseline_cells(columns, baseline)) + " |")
    return "\n".join(lines) + "\n"


def _baseline_cells(columns: Sequence[Measure], baseline: Mapping[str, float]) -> list[str]:
    return [f"{100 * baseline[c.group]:.1f}" if c.group in baseline else "–" for c in columns]


def _tiles(results: Sequence[Result], recipe: LabRecipe) -> list[tuple[str, str]]:
    seconds = sum(result["seconds"] for result in results)
    tokens = sum(result["tokens"] for result in results)
    people = [] if recipe.world is None else [(f"{recipe.world.people}", "people")]
    return [
        *people,
        (f"{len(results)}", "models trained"),
        (f"{tokens / 1e6:,.1f} M", "tokens"),
        (f"{seconds / 3600:,.1f} h", "of pretraining"),
    ]


def _tuning(groups: Mapping[str, Sequence[Result]], recipe: LabRecipe) -> Section | None:
    if recipe.tuning is None or not groups:
        return None
    charts = []
    for group in (ASKED, NOT_ASKED, OTHERS, OPEN_BOOK):
        lines = [
            Line(
                name=arm,
                hue=number,
                points=tuple(_curve_point(each, place, group) for place in range(len(recipe.tuning.steps))),
                dashed=arm == CONTROL,
            )
            for number, (arm, each) in enumerate(groups.items())
        ]
        svg = line_chart(lines, x_label="steps of finetuning", y_label="% right", title=group)
        charts.append(Chart(title=f"{group[0].upper()}{group[1:]}", svg=Markup(svg)))
    note = (
        "The same questions for every arm: about asked people, and about unrelated texts. The loss is on the answers."
    )
    return Section(title="Instruction finetuning of every arm", note=note, charts=tuple(charts))


def _curve_point(results: Sequence[Result], place: int, group: str) -> LinePoint:
    shares = []
    for result in results:
        counts = result["curve"][place]["scores"].get(group, {"right": 0, "asked": 1})
        shares.append(100 * counts["right"] / counts["asked"])
    spread = Spread.of(shares)
    return LinePoint(x=results[0]["curve"][place]["step"], y=spread.mean, sd=spread.sd)


def _sweep(results: Sequence[Result], recipe: LabRecipe) -> Section | None:
    swept = sweep_of(results, recipe)
    if recipe.sweep is None or len(swept) < 2:
        return None
    lines = []
    for number, column in enumerate(measures(recipe)[1:]):
        points = [
            LinePoint(x=100 * share, y=100 * spread.mean, sd=100 * spread.sd)
            for share, each in swept
            if (spread := column.spread(each)) is not None
        ]
        after = "after" in column.name
        lines.append(Line(name=column.name, hue=number, points=tuple(points), dashed=not after))
    bits = measures(recipe)[0]
    spreads = [(share, bits.spread(each)) for share, each in swept]
    loss = Line(
        name="bits per byte",
        hue=HUES,
        points=tuple(LinePoint(x=100 * share, y=s.mean, sd=s.sd) for share, s in spreads if s is not None),
    )
    charts = [
        Chart(
            title="Held-out raw text",
            svg=Markup(line_chart([loss], x_label="synthetic share, %", y_label="bits per byte", title="loss")),
        )
    ]
    if lines:
        svg = line_chart(lines, x_label="synthetic share, %", y_label="% right", title="accuracy")
        charts.insert(0, Chart(title="Questions", svg=Markup(svg)))
    return Section(
        title=f"Synthetic share of {recipe.sweep.arm}",
        note=f"Share 0 is the arm {CONTROL}.",
        charts=tuple(charts),
    )


def _ledger(groups: Mapping[str, Sequence[Result]]) -> list[dict[str, str]]:
    return [
        {
            "arm": arm,
            "part": part["name"],
            "tokens": f"{part['tokens']:,}",
            "passes": f"{part['passes']:.1f}",
            "seconds": f"{Spread.of([each['seconds'] for each in results]).mean:,.0f}",
        }
        for arm, results in groups.items()
        for part in results[0]["parts"]
    ]


def _plain(value: Any) -> Any:
    """Without settings that are not given."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    return value
