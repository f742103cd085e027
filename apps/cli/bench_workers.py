"""`mlx-suite bench workers`: a Magpie run with several processes, compared with one."""

import json as json_format
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .bench_models import checkpoint_folder
from .flags import AsJson

if TYPE_CHECKING:
    from ..bench.workers import WorkersComparison, WorkersSide

BUSY = 0.5
"""Load average above which other programs compete for the cores."""


def workers(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="A chat model that generates the rows.")
    ] = "tiny-llama3",
    count: Annotated[int, typer.Option(min=1, help="Accepted rows per run.")] = 200,
    batch: Annotated[int, typer.Option(min=1, help="Batch size of each process.")] = 16,
    processes: Annotated[int, typer.Option(min=2, help="Processes, as under mlx.launch.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, help="Timed runs per side, in turn; medians are printed.")] = 3,
    json: AsJson = False,
) -> None:
    """Compare Magpie with several processes and with one: rows per second, and cores in use.

    Both sides generate the same rows in turn, with one BLAS thread per process if there are as many cores as processes.
    One process may use more than one core, so the cores of the machine bound the speed-up: the bound is printed too.
    On a busy machine only the CPU seconds mean something.

    Example: mlx-suite bench workers --count 200 --processes 2
    """
    from mlx_suite.magpie.settings import MagpieSettings

    from ..bench.workers import compare_workers

    with checkpoint_folder(model) as folder:
        comparison = compare_workers(folder, MagpieSettings(count=count, batch=batch), processes, rounds)
    if json:
        typer.echo(json_format.dumps(_as_dict(comparison), indent=2))
    else:
        _show(Console(highlight=False), comparison)


def _side(side: "WorkersSide") -> dict[str, Any]:
    return {
        "side": side.name,
        "seconds": round(side.seconds, 2),
        "rows_per_second": round(side.rows_per_second, 3),
        "cores": round(side.cores, 2),
        "cpu_seconds": round(side.cpu_seconds, 2),
    }


def _as_dict(comparison: "WorkersComparison") -> dict[str, Any]:
    return {
        "sides": [_side(comparison.alone), _side(comparison.several)],
        "speed_up": round(comparison.speed_up, 2),
        "bound": round(comparison.bound, 2),
        "work": round(comparison.work, 2),
        "same_rows": comparison.same_rows,
        "load": round(comparison.load, 1),
    }


def _show(console: Console, comparison: "WorkersComparison") -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("workers", "s", "rows/s", "cores in use", "CPU s"):
        table.add_column(heading, justify="left" if heading == "workers" else "right")
    for side in (comparison.alone, comparison.several):
        table.add_row(
            side.name,
            f"{side.seconds:.1f}",
            f"{side.rows_per_second:.2f}",
            f"{side.cores:.2f}",
            f"{side.cpu_seconds:.1f}",
        )
    console.print(table)
    same = "the same bytes" if comparison.same_rows else "DIFFERENT ROWS"
    console.print(
        f"speed-up {comparison.speed_up:.2f}x, {same}. One process alone keeps {comparison.alone.cores:.2f} of "
        f"{comparison.cores} cores busy, so {comparison.bound:.2f}x is the bound for equal work; the work is "
        f"{comparison.work:.2f}x."
    )
    if comparison.load > BUSY:
        console.print(f"The machine was busy (load {comparison.load:.1f}): only the CPU seconds can be relied on.")
