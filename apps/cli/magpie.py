"""`mlx-suite magpie`: instruction data that a model writes by itself.

One command so far. Those that tag, filter and report on a folder of rows will stand beside it.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlx_suite.magpie import MagpieSettings
from mlx_suite.runtime.progress import Progress, duration

from .checkpoint import ModelName, open_checkpoint
from .options import option

if TYPE_CHECKING:
    from mlx_suite.magpie import Summary
    from mlx_suite.magpie.summary import Work

SAMPLES = 5
LONGEST = 200
"""Characters of a text that the table of samples shows."""

_DEFAULT = MagpieSettings(count=1)


def magpie(
    model: ModelName,
    count: Annotated[int, option(MagpieSettings, "count", "--count", "-n", metavar="N")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="The folder to fill; made if missing, continued if begun."),
    ],
    seed: Annotated[int, option(MagpieSettings, "seed")] = _DEFAULT.seed,
    system: Annotated[str | None, option(MagpieSettings, "system", metavar="TEXT")] = _DEFAULT.system,
    temperature: Annotated[float, option(MagpieSettings, "temperature")] = _DEFAULT.temperature,
    top_p: Annotated[float, option(MagpieSettings, "top_p")] = _DEFAULT.top_p,
    answer_temperature: Annotated[float, option(MagpieSettings, "answer_temperature")] = _DEFAULT.answer_temperature,
    answer_top_p: Annotated[float, option(MagpieSettings, "answer_top_p")] = _DEFAULT.answer_top_p,
    max_instruction: Annotated[
        int, option(MagpieSettings, "max_instruction", metavar="TOKENS")
    ] = _DEFAULT.max_instruction,
    max_answer: Annotated[int, option(MagpieSettings, "max_answer", metavar="TOKENS")] = _DEFAULT.max_answer,
    batch: Annotated[int, option(MagpieSettings, "batch", metavar="ROWS")] = _DEFAULT.batch,
    patience: Annotated[int, option(MagpieSettings, "patience", metavar="ROWS")] = _DEFAULT.patience,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON for a program to read.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
) -> None:
    """Let a chat model write instructions and answer them.

    The model is given its own chat template up to the place where a user would begin to type, so it writes what a
    user would ask; then it answers (Magpie, arXiv 2406.08464).

    Into DIR go `accepted.jsonl`, rows with `messages` for finetuning; `rejected.jsonl`, what was cut off, empty or a
    duplicate, with the reason; `settings.json`, what made them.

    Stop it whenever you like: the same command goes on where it was and ends with the same rows.

    Example: `mlx-suite magpie tiny-llama3 --count 200 --out demo/`
    """
    settings = MagpieSettings(
        count=count,
        seed=seed,
        batch=batch,
        system=system,
        temperature=temperature,
        top_p=top_p,
        max_instruction=max_instruction,
        answer_temperature=answer_temperature,
        answer_top_p=answer_top_p,
        max_answer=max_answer,
        patience=patience,
    )
    try:
        summary = _make(model, settings, out, quiet)
    except KeyboardInterrupt:
        print(f"Stopped. What was made is in {out}; the same command goes on from there.", file=sys.stderr)
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps(summary.as_dict(), indent=2, ensure_ascii=False))
    else:
        _show(Console(highlight=False), summary)


def _make(model: str, settings: MagpieSettings, out: Path, quiet: bool) -> "Summary":
    from mlx_suite.magpie import make_dataset

    checkpoint = open_checkpoint(model, quiet)
    template = checkpoint.template
    if settings.system and not template.takes_system and not quiet:
        note = "The chat template knows no system role: the system text became a first exchange."
        print(note, file=sys.stderr)
    settings = replace(settings, model_name=checkpoint.name)
    with _progress(settings.count, quiet) as report:
        return make_dataset(checkpoint.model, checkpoint.tokenizer, template, settings, out, report)


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress line that begins with the rows a continued folder holds already."""
    if quiet:
        yield None
        return
    with ExitStack() as stack:
        shown: Progress | None = None

        def report(accepted: int, asked: int) -> None:
            nonlocal shown
            if shown is None:
                if accepted == total:
                    return
                shown = stack.enter_context(Progress("magpie", total, unit="rows", done=accepted))
            shown.update(accepted, asked=asked)

        yield report


def _show(console: Console, summary: "Summary") -> None:
    """Samples first: whether the rows are any good is what everyone wants to know."""
    console.print(_samples(summary))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim", min_width=9)
    table.add_column(overflow="fold")
    for name, value in _figures(summary):
        table.add_row(name, Text(value))
    console.print(table)
    console.print(
        Text.assemble(("rows       ", "dim"), str(summary.accepted_file)), soft_wrap=True
    )  # whole, to be copied


def _samples(summary: "Summary") -> Table:
    """Rows spread evenly over the folder."""
    table = Table(box=box.HORIZONTALS, show_lines=True, pad_edge=False, expand=True, header_style="bold")
    table.add_column("the model asks", ratio=1, overflow="fold")
    table.add_column("and answers", ratio=1, overflow="fold")
    stride = max(1, summary.accepted // SAMPLES)
    for record in islice(summary.records(), 0, SAMPLES * stride, stride):
        asked, answered = (message["content"] for message in record["messages"][-2:])
        table.add_row(_shortened(asked), _shortened(answered))
    return table


def _shortened(text: str) -> Text:
    shown = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
    return Text(shown if len(shown) <= LONGEST else shown[:LONGEST].rstrip() + " …")


def _figures(summary: "Summary") -> list[tuple[str, str]]:
    from mlx_suite.magpie.screen import REASONS

    figures = [("asked", f"{summary.asked:,} rows")]
    for reason, number in summary.rejections.items():
        figures.append(("rejected", f"{number:,}: {REASONS.get(reason, reason)}"))
    figures.append(("accepted", f"{summary.accepted:,} rows, a yield of {_percent(summary.accepted, summary.asked)}"))
    figures.append(("speed", _speed(summary.work)))
    truth = summary.truth
    if truth is not None:
        share = _percent(truth.right, truth.rows)
        figures.append(("confirmed", f"{truth.right:,} of {truth.rows:,} answers are right, {share}"))
        if truth.recognised < truth.rows:
            figures.append(("", f"{truth.recognised:,} of the instructions are the microworld's"))
    return figures


def _speed(work: "Work | None") -> str:
    if work is None:
        return "all rows were there already"
    rate = work.rows_per_second
    rows = f"{rate:.1f} rows/s" if rate >= 0.95 else f"{1 / max(rate, 1e-9):.1f} s per row"
    tokens = f"{work.tokens_per_second:,.0f} tokens/s"
    return f"{rows} in {duration(work.seconds)}; {tokens}, slots {work.counts.busy:.0%} busy"


def _percent(part: int, whole: int) -> str:
    return f"{part / max(whole, 1):.0%}"
