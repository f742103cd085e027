"""`mlx-suite bench start`: time to the first token of a new process, beside mlx-lm's."""

import json as json_format
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .flags import AsJson, ModelName


def start(
    model: ModelName,
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="The user's turn.")] = "What is 12 plus 30?",
    repeats: Annotated[int, typer.Option(min=1, help="Starts of each side; medians are printed.")] = 3,
    json: AsJson = False,
) -> None:
    """Compare the time from the start of a process to its first token with mlx-lm's, in wall and CPU seconds.

    Both load the same folder, each in its usual precision, and run the same BLAS. A busy machine changes the CPU time,
    that of all threads together, less than the wall time.

    Example: `mlx-suite bench start tiny-llama3`
    """
    from mlx_suite.hub.resolve import resolve

    from ..bench.start import PHASES, compare_starts

    ours, theirs = compare_starts(str(resolve(model)), prompt, repeats)
    ratio = round(ours.total / theirs.total, 3)
    if json:
        typer.echo(json_format.dumps({"sides": [asdict(ours), asdict(theirs)], "ratio": ratio}, indent=2))
        return
    table = Table("side", *PHASES, "total", title=f"{model}, seconds (CPU seconds)")
    for side in (ours, theirs):
        cells = [f"{side.seconds[phase]:.2f} ({side.cpu_seconds[phase]:.2f})" for phase in PHASES]
        table.add_row(side.side, *cells, f"{side.total:.2f} ({side.cpu_total:.2f})")
    Console().print(table)
    typer.echo(f"ours / mlx-lm: {ratio:.2f}x, CPU {ours.cpu_total / theirs.cpu_total:.2f}x")
