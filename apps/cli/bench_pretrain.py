"""`mlx-suite bench pretrain`: our pretraining compared with a loop in torch, and AdamW with Muon."""

import json as json_format
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .flags import AsJson

if TYPE_CHECKING:
    from ..bench.pretraining import PretrainingComparison


def pretrain(
    size: Annotated[int, typer.Option(min=1, max=24, help="Size of the model: its number of blocks.")] = 4,
    length: Annotated[int, typer.Option(min=8, help="Tokens per row.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Rows per step.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Steps per round.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds; medians are printed.")] = 3,
    processes: Annotated[
        int, typer.Option(min=1, help="Also train in this many processes, as under mlx.launch: faster on a CPU.")
    ] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="A small model and two steps, to check that it runs.")] = False,
    json: AsJson = False,
) -> None:
    """Compare pretraining with a loop in torch, and AdamW with Muon: tokens per second, loss, memory.

    All sides train the same weights on the same batches of microworld passages, in turn, each in its own process. The
    torch loop has nanochat's shape: attention by scaled_dot_product_attention, all logits in one cross-entropy, fused
    AdamW or torch's Muon. It runs if torch is installed. The losses are those on held-out passages after equal tokens.

    Example: mlx-suite bench pretrain --size 4
    """
    from ..bench.pretraining import PretrainingWorkload, compare

    workload = PretrainingWorkload(
        size=size, length=length, batch=batch, steps=steps, rounds=rounds, processes=processes
    )
    if quick:
        workload = replace(workload, size=1, length=64, batch=2, steps=2, rounds=1)
    comparison = compare(workload)
    if json:
        typer.echo(json_format.dumps(_as_dict(comparison), indent=2))
    else:
        _show(Console(), comparison)


def _as_dict(comparison: "PretrainingComparison") -> dict[str, Any]:
    return asdict(comparison) | {"ratios": {side: round(ratio, 3) for side, ratio in comparison.ratios().items()}}


def _show(console: Console, comparison: "PretrainingComparison") -> None:
    workload = comparison.workload
    table = Table(box=None, pad_edge=False)
    for heading in ("trainer", "tok/s", "slowest-fastest", "RSS MB", "loss"):
        table.add_column(heading, justify="left" if heading == "trainer" else "right")
    for side in comparison.sides:
        table.add_row(
            side.side,
            f"{side.tokens_per_second:,.0f}",
            f"{side.slowest:,.0f}-{side.fastest:,.0f}",
            f"{side.resident_bytes / 1e6:,.0f}",
            f"{side.loss:.3f}",
        )
    console.print(table)
    ratios = "; ".join(f"{side} {ratio:.2f}x" for side, ratio in comparison.ratios().items())
    speed = f"speed over torch's: {ratios}" if ratios else "torch is not installed: pip install torch"
    console.print(
        f"{speed}. {comparison.parameters:,} parameters, {workload.batch} rows of {workload.length} tokens per step; "
        f"held-out loss after {comparison.tokens:,} tokens",
        highlight=False,
    )
