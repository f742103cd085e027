"""`mlx-suite bench attention`: attention of packed rows in blocks, compared with all pairs."""

import json as json_format
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from .flags import AsJson, positive_numbers

if TYPE_CHECKING:
    from ..bench.attention_memory import AttentionCost


def attention(
    lengths: Annotated[str, typer.Option(help="Row lengths, separated by commas.")] = "2048,8192",
    documents: Annotated[int, typer.Option(min=1, help="Documents per row, each half as long as the one before.")] = 4,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs; the best is printed.")] = 3,
    json: AsJson = False,
) -> None:
    """Compare attention in blocks, as used in training, with attention over all pairs of a packed row.

    One layer of two heads of 64 dimensions, forward and backward: global layers of Llama 3 and Gemma 2 (soft-capped),
    and a local layer of Gemma 2 with a window of an eighth of the row. "diff" is the largest relative difference of the
    loss or a gradient. All pairs of 8,192 positions take about 4.5 GB.

    Example: mlx-suite bench attention --lengths 2048
    """
    from ..bench.attention_memory import RowShape, measure_attention

    results = []
    for length in positive_numbers("--lengths", lengths, "2048,8192"):
        for cap, window in ((None, None), (50.0, None), (50.0, max(1, length // 8))):
            shape = RowShape(positions=length, documents=min(documents, length), cap=cap, window=window)
            results.append(measure_attention(shape, repeats))
    if json:
        report = [
            asdict(each) | {"memory_ratio": round(each.memory_ratio, 4), "time_ratio": round(each.time_ratio, 4)}
            for each in results
        ]
        typer.echo(json_format.dumps(report, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("length", "layer", "side", "MB", "ms", "memory", "time", "diff"):
        table.add_column(heading, justify="left" if heading in ("layer", "side") else "right", no_wrap=True)
    for each in results:
        layer = "Llama 3" if each.shape.cap is None else "Gemma 2" + (" local" if each.shape.window else "")
        difference = max(each.loss_difference, each.gradient_difference)
        ratios = (f"{each.memory_ratio:.1%}", f"{each.time_ratio:.2f}x", f"{difference:.0e}")
        table.add_row(f"{each.shape.positions:,}", layer, "blocks", *_figures(each.blocks), *ratios)
        table.add_row("", "", "all pairs", *_figures(each.pairs))
    Console().print(table)


def _figures(cost: "AttentionCost") -> tuple[str, str]:
    return f"{cost.peak_bytes / 1e6:,.0f}", f"{cost.milliseconds:,.0f}"
