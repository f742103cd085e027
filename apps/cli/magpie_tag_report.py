"""Output of `magpie tag` and `magpie calibrate`: labelled lines, and the fields of `--json`."""

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
"""Maximum number of labels, or of confused pairs of labels, in a line."""


def tag_facts(run: "TagRun", out: Path) -> dict[str, Any]:
    """Fields of `--json`."""
    names = dict.fromkeys(name for row in run.rows for name in row.get("tags") or {})
    scores = dict.fromkeys(name for row in run.rows for name in row.get("scores") or {})
    return {
        "file": str(out),
        "rows": len(run.rows),
        "reused": run.reused,
        "untagged": dict(Counter(row["untagged"] for row in run.rows if "untagged" in row)),
        "tags": {name: dict(Counter(_values(run, "tags", name)).most_common()) for name in names},
        "confidence": {name: fmean(values) for name in names if (values := _values(run, "confidence", name))},
        "scores": {
            name: {"mean": fmean(values), "rows": len(values)}
            for name in scores
            if (values := _values(run, "scores", name))
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
        mean = facts["confidence"].get(name)
        yield "tags" if not number else "", f"{name}: {most}{rest}" + (f"; confidence {mean:.2f}" if mean else "")
    for number, (name, score) in enumerate(facts["scores"].items()):
        yield "scores" if not number else "", f"{name}: {score['mean']:.3f}, mean of {score['rows']:,} rows"
    for number, (reason, count) in enumerate(facts["untagged"].items()):
        yield "untagged" if not number else "", f"{count:,}: {NOT_ENCODED.get(reason, reason)}"
    if run.reused:
        yield "reused", f"{run.reused:,} rows that were already tagged"
    tagged = len(run.rows) - run.reused
    if tagged and run.seconds:
        seconds = sum(run.seconds.values())
        yield "speed", f"{tagged / max(seconds, 1e-9):.1f} rows/s in {duration(seconds)}"
    yield "rows", f"{len(run.rows):,} in {out}"
    yield "next", f"mlx-suite magpie filter {out} --where 'input_quality >= good' --out kept/"


def show_calibration(report: "CalibrationReport", model: str) -> None:
    left_out = f"; {report.left_out:,} could not be encoded" if report.left_out else ""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("model", Text(f"{model}, on {report.rows:,} rows with known labels{left_out}"))
    for each in report.questions:
        table.add_row("", "")
        for number, line in enumerate(_question_lines(each)):
            table.add_row("" if number else each.question.name, Text(line))
    table.add_row("", "")
    table.add_row("parsing", Text("none: the most probable label is taken, so every row has one"))
    Console(highlight=False).print(table)


def _question_lines(each: "QuestionReport") -> Iterator[str]:
    chosen = each.chosen
    yield f"{chosen.verdict}: {chosen.share:.0%} of {chosen.rows:,} rows agree{_interval(chosen)}"
    weighted = "" if chosen.weighted_kappa is None else f", weighted kappa {chosen.weighted_kappa:.2f}"
    yield f"kappa {_figure(chosen.kappa)}{weighted}; macro F1 {_figure(chosen.macro_f1)}"
    yield f"majority class: {chosen.majority:.0%}"
    means = f"{_figure(chosen.confidence_right)} where right, {_figure(chosen.confidence_wrong)} where wrong"
    yield f"confidence {means}; calibration error {_figure(chosen.calibration_error)}"
    if confused := _confused(chosen):
        yield f"most often wrong: {confused}"
    if each.written is not None:
        text = each.written
        parsed = f"{text.parse_rate:.0%} of the replies can be parsed"
        yield f"as text: {parsed}, {text.share:.0%} of the rows agree, kappa {_figure(text.kappa)}"
    if each.stability is not None:
        yield f"with the second questions: {each.stability:.0%} of the rows get the same label"


def _confused(agreement: "LabelAgreement") -> str:
    """The most frequent pairs of a true label and the wrong one chosen for it."""
    pairs = Counter(
        {
            (truth, label): count
            for truth, line in zip(agreement.labels, agreement.matrix, strict=True)
            for label, count in zip(agreement.labels, line, strict=True)
            if truth != label and count
        }
    )
    return ", ".join(f"{truth} as {label} {count}" for (truth, label), count in pairs.most_common(SHOWN))


def _interval(agreement: "LabelAgreement") -> str:
    if agreement.interval is None:
        return ""
    low, high = agreement.interval
    return f" (95% CI {low:.0%} to {high:.0%})"


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _values(run: "TagRun", field: str, name: str) -> list[Any]:
    return [row[field][name] for row in run.rows if name in (row.get(field) or {})]
