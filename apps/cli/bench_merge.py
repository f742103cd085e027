"""`mlx-suite bench merge`: memory of merging, beside the size of the models."""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from .flags import AsJson, check_choice, print_json


def merge(
    methods: Annotated[
        list[str] | None, typer.Argument(metavar="[METHOD]...", help="Methods of `mlx-suite merge`. Default: all.")
    ] = None,
    models: Annotated[int, typer.Option(min=2, metavar="N", help="Merged models, the base not counted.")] = 2,
    layers: Annotated[int, typer.Option(min=1, metavar="N", help="Layers of the models; Llama 3.2 1B has 16.")] = 16,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where the models are written, 2.5 GB each; by default among temporary files."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain/--no-plain", help="Also average whole models in memory, which takes about 12 GB.")
    ] = True,
    json: AsJson = False,
) -> None:
    """Compare the peak memory of merging with the size of the models and with a merge that holds them whole.

    The models have the shape of Llama 3.2 1B and random weights; they are deleted afterwards. The largest tensor, its
    embedding, has 1.05 GB in fp32.

    Example: mlx-suite bench merge linear ties --models 3
    """
    from rich.console import Console
    from rich.table import Table

    from mlx_suite.runtime.memory import human_bytes

    from ..bench.merging import MERGED, ONE_BILLION, measure_merges

    for method in methods or ():
        check_choice("METHOD", method, MERGED)
    with TemporaryDirectory(dir=folder) as work:
        config = ONE_BILLION | {"num_hidden_layers": layers}
        costs = measure_merges(config, Path(work), methods or MERGED, models=models, plain=plain)
    if json:
        print_json([asdict(each) for each in costs])
        return
    table = Table(box=None, pad_edge=False)
    headings = ("side", "models", "model", "largest tensor", "MLX peak", "of three tensors", "resident", "s", "CPU s")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "side" else "right", no_wrap=True)
    for each in costs:
        table.add_row(
            *(each.name, str(each.models), human_bytes(each.model_bytes), human_bytes(each.largest_bytes)),
            *(human_bytes(each.mlx_bytes), f"{each.mlx_bytes / (3 * each.largest_bytes):.2f}x"),
            *(human_bytes(each.resident_bytes), f"{each.seconds:,.1f}", f"{each.cpu_seconds:,.1f}"),
        )
    Console().print(table)
