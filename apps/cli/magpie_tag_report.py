"""What `magpie tag` and `magpie calibrate` print: lines for a person, facts for a program."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlx_suite.runtime.progress import duration

if TYPE_CHECKING:
    from mlx_suite.curation.tags.calibration import CalibrationReport, QuestionReport
    from mlx_suite.curation.tags.label_agreement import LabelAgreement
    from mlx_suite.curation.tags.tag_dataset import TagRun

SHOWN = 4
"""Labels of a question, and mix-ups, that a line shows."""


def tag_facts(run: "TagRun", out: Path) -> dict[str, Any]:
    """For JSON."""
    names = dict.fromkeys(name for row in run.rows for name in row.get("tags") or {})
    scores = dict.fromkeys(name for row in run.rows for name in row.get("scores") or {})
    return {
        "file": str(out),
        "rows": len(run.rows),
        "reused": run.reused,
        "untagged": dict(Counter(row["untagged"] for row in run.rows if "untagged" in row)),
        "tags": {name: dict(Counter(_values(run, "tags", name)).most_common()) for name in names},
        "confidence": {name: fmean(found) for name in names if (found := _values(run, "confidence", name))},
        "scores": {
            name: {"mean": fmean(found), "rows": len(found)}
            for name in scores
            if (found := _values(run, "scores", name))
        },
        "tokens": {"given": run.stats.prefilled, "asked_aside": run.stats.queried},
        "seconds": dict(run.seconds),
    }


def tag_lines(run: "TagRun", out: Path) -> Iterator[tuple[str, str]]:
    from mlx_suite.engine.chat_model import NOT_ENCODED

    facts = tag_facts(run, out)
    for number, (name, counts) in enumerate(facts["tags"].items()):
        total = sum(counts.values())
        most = ", ".join(f"{label} {count / total:.0%}" for label, count in list(counts.items())[:SHOWN])
        rest = f", {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
        sure = facts["confidence"].get(name)
        yield "tags" if not number else "", f"{name}: {most}{rest}" + (f"; confidence {sure:.2f}" if sure else "")
    for number, (name, score) in enumerate(facts["scores"].items()):
        yield "scores" if not number else "", f"{name}: {score['mean']:.3f} on the average of {score['rows']:,} rows"
    for number, (reason, count) in enumerate(facts["untagged"].items()):
        yield "untagged" if not number else "", f"{count:,}: {NOT_ENCODED.get(reason, reason)}"
    if run.reused:
        yield "reused", f"{run.reused:,} rows were tagged already"
    made = len(run.rows) - run.reused
    if made and run.seconds:
        seconds = sum(run.seconds.values())
        yield "speed", f"{made / max(seconds, 1e-9):.1f} rows/s in {duration(seconds)}"
    yield "rows", f"{len(run.rows):,} in {out}"
    yield "next", f"mlx-suite magpie filter {out} --where 'input_quality >= good' --out kept/"


def show_calibration(report: "CalibrationReport", model: str) -> None:
    left_out = f"; {report.left_out:,} could not be put to it" if report.left_out else ""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("model", Text(f"{model}, on {report.rows:,} rows with known labels{left_out}"))
    for each in report.questions:
        table.add_row("", "")
        for number, line in enumerate(_question_lines(each)):
            table.add_row("" if number else each.question.name, Text(line))
    table.add_row("", "")
    table.add_row("parsing", Text("none: a label is chosen, so every row has one"))
    Console(highlight=False).print(table)


def _question_lines(each: "QuestionReport") -> Iterator[str]:
    found = each.chosen
    yield f"{found.verdict}: {found.share:.0%} of {found.rows:,} rows agree{_interval(found)}"
    weighted = "" if found.weighted_kappa is None else f", {found.weighted_kappa:.2f} where near misses count less"
    yield f"kappa {_figure(found.kappa)}{weighted}; macro F1 {_figure(found.macro_f1)}"
    yield f"always the most frequent label: {found.majority:.0%}"
    sure = f"{_figure(found.confidence_right)} where right, {_figure(found.confidence_wrong)} where wrong"
    yield f"confidence {sure}; off by {_figure(found.calibration_error)} on the average"
    if mixed := _mixed_up(found):
        yield f"most often wrong: {mixed}"
    if each.written is not None:
        text = each.written
        read = f"{text.parse_rate:.0%} of the replies can be read"
        yield f"as text: {read}, {text.share:.0%} of the rows agree, kappa {_figure(text.kappa)}"
    if each.stability is not None:
        yield f"asked in other words: {each.stability:.0%} of the rows have the same label"


def _mixed_up(found: "LabelAgreement") -> str:
    """The most frequent wrong labels."""
    pairs = Counter(
        {
            (truth, label): count
            for truth, line in zip(found.labels, found.matrix, strict=True)
            for label, count in zip(found.labels, line, strict=True)
            if truth != label and count
        }
    )
    return ", ".join(f"{truth} as {label} {count}" for (truth, label), count in pairs.most_common(SHOWN))


def _interval(found: "LabelAgreement") -> str:
    return "" if found.interval is None else f" (95 %: {found.interval[0]:.0%} to {found.interval[1]:.0%})"


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _values(run: "TagRun", field: str, name: str) -> list[Any]:
    return [row[field][name] for row in run.rows if name in (row.get(field) or {})]
