"""`mlx-suite magpie filter`: the rows that are worth training on, and what became of the others."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlx_suite.curation.filter.settings import FilterSettings

from .magpie_stage import DataName
from .options import option

if TYPE_CHECKING:
    from mlx_suite.curation.filter.filter import Filtered

_DEFAULT = FilterSettings()
_PRESET = "The paper's filters"
_CHOICE = "How many, and which"

Out = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="DIR", help="The folder to fill. One that this command has made is replaced."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a folder that something else has made.")]


def _flag(field: str, metavar: str | None = None, panel: str | None = None, *flags: str) -> object:
    found = option(FilterSettings, field, *flags, metavar=metavar)
    found.rich_help_panel = panel
    return found


def magpie_filter(
    data: DataName,
    out: Out,
    where: Annotated[list[str] | None, _flag("where", "CONDITION")] = None,
    confidence: Annotated[float | None, _flag("confidence")] = _DEFAULT.confidence,
    keep_first: Annotated[str, _flag("keep_first", "HOW")] = _DEFAULT.keep_first,
    threshold: Annotated[float | None, _flag("threshold")] = _DEFAULT.threshold,
    per: Annotated[list[str] | None, _flag("per", "FIELD=ROWS", _CHOICE)] = None,
    longest: Annotated[int | None, _flag("longest", "ROWS", _CHOICE)] = _DEFAULT.longest,
    sample: Annotated[int | None, _flag("sample", "ROWS", _CHOICE)] = _DEFAULT.sample,
    seed: Annotated[int, _flag("seed", None, _CHOICE)] = _DEFAULT.seed,
    preset: Annotated[str, _flag("preset", "NAME", _PRESET)] = _DEFAULT.preset,
    tau1: Annotated[float, _flag("tau1", None, _PRESET)] = _DEFAULT.tau1,
    tau2: Annotated[float, _flag("tau2", None, _PRESET)] = _DEFAULT.tau2,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the funnel as JSON for a program to read.")] = False,
) -> None:
    """Keep the rows that are worth training on.

    Into DIR go `accepted.jsonl`, the rows that stay; `rejected.jsonl`, the others, with the reason; `filter.json`,
    what each step cost. `finetune` and the other commands take DIR as it is. DATA stay as they are.

    Conditions ask for tags and scores (`category`, `difficulty`, `input_quality`, `answer_quality`, `language`,
    `safety`, `ifd`, `reward`), for counts (`turns`, `answer_words`, `instruction_chars`, …) and for whatever else
    stands in the rows. A row without the field does not stay.

    Example: `mlx-suite magpie filter demo/ --where 'input_quality >= good' --where 'answer_words >= 5' --out kept/`
    """
    from mlx_suite.curation.filter.filter import filter_dataset

    settings = FilterSettings(
        where=tuple(where or ()),
        preset=preset,
        tau1=tau1,
        tau2=tau2,
        confidence=confidence,
        keep_first=keep_first,
        threshold=threshold,
        per=tuple(per or ()),
        longest=longest,
        sample=sample,
        seed=seed,
    )
    filtered = filter_dataset(data, settings, out, force=force)
    if as_json:
        print(json.dumps({"folder": str(out), **filtered.as_dict()}, indent=2, ensure_ascii=False))
    else:
        _show(Console(highlight=False), filtered, out)


def _show(console: Console, filtered: "Filtered", out: Path) -> None:
    """The funnel, from all rows to those that stay."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    table.add_row(f"{filtered.read:,}", "", Text(f"rows of {filtered.source}"))
    for result in filtered.results:
        missing = "".join(f"; {n:,} have {reason}" for reason, n in result.dropped.items() if reason.startswith("no "))
        gone = sum(result.dropped.values())
        table.add_row(f"{result.left:,}", f"-{gone:,}" if gone else "", Text(result.step + missing))
    console.print(table)
    share = len(filtered.kept) / max(filtered.read, 1)
    console.print(f"{len(filtered.kept):,} of {filtered.read:,} rows, {share:.0%}, kept in {out}", soft_wrap=True)
