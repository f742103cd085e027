"""`mlx-suite magpie export`: a dataset in the shape another program reads."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mlx_suite.curation.export.settings import ExportSettings

from .magpie_stage import DataName
from .options import option

if TYPE_CHECKING:
    from mlx_suite.curation.export.export import Exported

_DEFAULT = ExportSettings(to="messages")


def magpie_export(
    data: DataName,
    to: Annotated[str, option(ExportSettings, "to", metavar="FORMAT")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="DIR", help="The folder to fill. One that this command has made is replaced."
        ),
    ],
    valid: Annotated[float | None, option(ExportSettings, "valid", metavar="SHARE")] = _DEFAULT.valid,
    test: Annotated[float | None, option(ExportSettings, "test", metavar="SHARE")] = _DEFAULT.test,
    cosine: Annotated[float | None, option(ExportSettings, "cosine")] = _DEFAULT.cosine,
    seed: Annotated[int, option(ExportSettings, "seed")] = _DEFAULT.seed,
    first_turn: Annotated[bool, option(ExportSettings, "first_turn")] = _DEFAULT.first_turn,
    keep_steering: Annotated[bool, option(ExportSettings, "keep_steering")] = _DEFAULT.keep_steering,
    license: Annotated[str, option(ExportSettings, "license", metavar="NAME")] = _DEFAULT.license,
    title: Annotated[str, option(ExportSettings, "title", metavar="TEXT")] = _DEFAULT.title,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that something else has made.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write a dataset for another program.

    Into DIR go the rows, `train.…` and, where a share is set aside, `valid.…` and `test.…`, between which no
    near-duplicates are shared; a dataset card, `README.md`; and `SHA256SUMS`.

    What steered the model while it wrote is left out of the rows, since whoever learns from them shall answer without
    it; a system text that was given to every row stays.

    Example: `mlx-suite magpie export kept/ --to mlx-lm --out for-mlx-lm/`
    """
    from mlx_suite.curation.export.export import export_dataset

    settings = ExportSettings(
        to=to,
        valid=valid,
        test=test,
        cosine=cosine,
        seed=seed,
        first_turn=first_turn,
        keep_steering=keep_steering,
        license=license,
        title=title,
    )
    exported = export_dataset(data, settings, out, force=force)
    if as_json:
        print(json.dumps(exported.as_dict(), indent=2, ensure_ascii=False))
    else:
        _show(Console(highlight=False), exported)


def _show(console: Console, exported: "Exported") -> None:
    width = max(len(f"{rows:,}") for rows in exported.files.values())
    for name, rows in exported.files.items():
        console.print(f"{rows:>{width},}  {exported.folder / name}", soft_wrap=True)  # whole, to be copied
    if exported.cut:
        console.print(f"cut to the first question and answer: {exported.cut:,}")
    if exported.unsteered:
        console.print(f"written without the text that steered them: {exported.unsteered:,}")
