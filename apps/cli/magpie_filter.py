"""`mlx-suite magpie filter`: keep the rows that meet conditions, and record why the others were rejected."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlx_suite.curation.filter.settings import FilterSettings

from .flags import AsJson, DataName, Force, NewFolder, Split, Strict, print_json
from .options import Flag, takes_settings
from .output import show_set_aside

if TYPE_CHECKING:
    from mlx_suite.curation.filter.filter import Filtered

GROUPS = {
    "Options": ("where", "confidence", "keep_first", "threshold", "decontaminate"),
    "Number of rows": ("per", "longest", "sample", "seed"),
    "Presets of the paper": ("preset", "tau1", "tau2"),
}
FLAGS = {
    "where": Flag(metavar="CONDITION", repeated=True),
    "decontaminate": Flag(metavar="FILE", repeated=True),
    "per": Flag(metavar="FIELD=ROWS", repeated=True),
    "keep_first": Flag(metavar="HOW"),
    "preset": Flag(metavar="NAME"),
    "longest": Flag(metavar="ROWS"),
    "sample": Flag(metavar="ROWS"),
}
COMMON = ("where", "keep_first", "per", "longest", "sample", "preset")


@takes_settings(FilterSettings, GROUPS, FLAGS, COMMON)
def magpie_filter(
    typed: Mapping[str, Any],
    data: DataName,
    out: NewFolder,
    force: Force = False,
    split: Split = "",
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Keep the rows that meet conditions.

    DIR gets accepted.jsonl (the rows kept), rejected.jsonl (the others, with reasons) and filter.json (settings, and
    rows left after each step). `finetune` and the other commands take DIR as their data. DATA is not changed.

    Conditions use tags and scores (category, difficulty, input_quality, answer_quality, language, safety, ifd,
    reward), counts (turns, answer_words, instruction_chars, …) and any other field. A row without the field is
    rejected.

    Example: `mlx-suite magpie filter demo/ --where 'input_quality >= good' --where 'answer_words >= 5' --out kept/`
    """
    from mlx_suite.curation.filter.filter import filter_dataset

    filtered = filter_dataset(data, FilterSettings(**typed), out, force=force, strict=strict, split=split)
    show_set_aside(filtered.set_aside, filtered.read)
    if as_json:
        print_json({"folder": str(out), **filtered.as_dict()})
    else:
        _show(Console(highlight=False), filtered, out)


def _show(console: Console, filtered: "Filtered", out: Path) -> None:
    """Print the funnel, from all rows to those kept."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    table.add_row(f"{filtered.read:,}", "", Text(f"rows of {filtered.source}"))
    for result in filtered.results:
        missing = "".join(f"; {n:,} have {reason}" for reason, n in result.dropped.items() if reason.startswith("no "))
        dropped = sum(result.dropped.values())
        table.add_row(f"{result.left:,}", f"-{dropped:,}" if dropped else "", Text(result.step + missing))
    console.print(table)
    share = len(filtered.kept) / max(filtered.read, 1)
    console.print(f"{len(filtered.kept):,} of {filtered.read:,} rows, {share:.0%}, kept in {out}", soft_wrap=True)
