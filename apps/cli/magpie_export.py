"""`mlx-suite magpie export`: a dataset in the format another program reads."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mlx_suite.curation.export.settings import ExportSettings

from .flags import AsJson, DataName, Force, NewFolder, Split, Strict, print_json
from .options import Flag, takes_settings
from .output import show_set_aside

if TYPE_CHECKING:
    from mlx_suite.curation.export.export import Exported

GROUPS = {
    "Options": ("to", "valid", "test", "cosine", "seed", "first_turn", "keep_steering", "license", "title"),
}
FLAGS = {
    "to": Flag(metavar="FORMAT"),
    "valid": Flag(metavar="SHARE"),
    "test": Flag(metavar="SHARE"),
    "license": Flag(metavar="NAME"),
    "title": Flag(metavar="TEXT"),
}


@takes_settings(ExportSettings, GROUPS, FLAGS)
def magpie_export(
    typed: Mapping[str, Any],
    data: DataName,
    out: NewFolder,
    force: Force = False,
    split: Split = "",
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Write a dataset for another program.

    DIR gets train.…, and valid.… and test.… if shares are given, with near-duplicates in one split only; a dataset card
    (README.md); and SHA256SUMS. Steering text is removed, since the dataset should train a model that works without
    it; a system prompt shared by all rows stays.

    Example: `mlx-suite magpie export kept/ --to mlx-lm --out for-mlx-lm/`
    """
    from mlx_suite.curation.export.export import export_dataset

    settings = ExportSettings(**typed)
    exported = export_dataset(data, settings, out, force=force, strict=strict, split=split)
    show_set_aside(exported.set_aside, exported.read)
    verb = "does" if len(exported.unfit) == 1 else "do"
    show_set_aside(exported.unfit, exported.read, f"{verb} not fit the format {settings.to}")
    if exported.hint:
        print(f"To export them too, {exported.hint}.", file=sys.stderr)
    if as_json:
        print_json(exported.as_dict())
    else:
        _show(Console(highlight=False), exported)


def _show(console: Console, exported: "Exported") -> None:
    width = max(len(f"{rows:,}") for rows in exported.files.values())
    for name, rows in exported.files.items():
        console.print(f"{rows:>{width},}  {exported.folder / name}", soft_wrap=True)  # for copying
    if exported.cut:
        console.print(f"cut to the first instruction and response: {exported.cut:,}")
    if exported.unsteered:
        console.print(f"steering text removed: {exported.unsteered:,}")
