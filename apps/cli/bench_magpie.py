"""`mlx-suite bench magpie`: accepted rows per hour, compared with a staged and a serial pipeline on mlx-lm."""

import json as json_format
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .bench_models import checkpoint_folder, load_ours, load_theirs
from .flags import AsJson

if TYPE_CHECKING:
    from ..bench.magpie import BenchCheckpoint, Pace, Target


def magpie(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="A chat model that generates the rows.")
    ] = "tiny-llama3",
    count: Annotated[int, typer.Option(min=3, help="Accepted rows per pipeline.")] = 150,
    batch: Annotated[int, typer.Option(min=2, help="Batch size of both batched pipelines.")] = 32,
    serial: Annotated[int, typer.Option(min=1, help="Rows on which the serial pipeline is timed.")] = 24,
    shape: Annotated[str, typer.Option(help="Random weights for the run with realistic lengths.")] = "random-llama-7m",
    rows: Annotated[int, typer.Option(min=2, help="Rows of the run with realistic lengths.")] = 96,
    json: AsJson = False,
) -> None:
    """Compare accepted Magpie rows per hour with two pipelines on mlx-lm: batches in two stages, and a serial loop.

    All pipelines run the same weights, and the same code accepts rows. Three targets: complete rows without duplicates;
    rows also tagged as good; and rows of three categories, with and without steering. A last run on random weights has
    realistic lengths, short instructions and long responses, and accepts a third of the rows.

    Example: mlx-suite bench magpie --count 60
    """
    from ..bench.magpie import TARGETS

    report: dict[str, Any] = {"model": model, "count": count, "batch": batch, "targets": []}
    with _checkpoint(model) as checkpoint:
        for target in TARGETS:
            paces = measure(checkpoint, target, count, batch, serial)
            report["targets"].append({"target": target.name, "sides": [_pace(pace, paces[0]) for pace in paces]})
            if not json:
                _show(target.name, [_pace(pace, paces[0]) for pace in paces])
    costs = measure_shape(shape, rows, batch, serial=4)
    report["shape"] = {"model": shape, "rows": rows, "sides": costs}
    if json:
        typer.echo(json_format.dumps(report, indent=2))
    else:
        _show(f"realistic lengths, {shape}", costs)


def measure(checkpoint: "BenchCheckpoint", target: "Target", count: int, batch: int, serial_rows: int) -> "list[Pace]":
    """Measure every pipeline on one target, ours first; with quotas, ours also runs without steering."""
    from ..bench.magpie import our_pace, serial_pace, staged_pace
    from ..bench.writers import batched, serial

    settings = target.settings_for(count, batch, steer=False)
    steered = target.settings_for(count, batch, steer=True)
    stops = frozenset(checkpoint.tokenizer.stop_ids)
    # Warm up: compile kernels and read files.
    our_pace(checkpoint, target, target.settings_for(3, batch, steer=True), "")
    staged_pace(
        checkpoint, target, target.settings_for(3, batch, steer=False), batched(checkpoint.theirs, stops, batch)
    )
    paces = []
    if steered.steered:
        paces.append(our_pace(checkpoint, target, steered, "mlx-suite, steered"))
    paces.append(our_pace(checkpoint, target, settings, "mlx-suite"))
    staged = staged_pace(checkpoint, target, settings, batched(checkpoint.theirs, stops, batch))
    paces.append(staged)
    paces.append(serial_pace(checkpoint, target, settings, serial(checkpoint.theirs, stops), serial_rows, staged))
    return paces


def measure_shape(name: str, rows: int, batch: int, serial: int) -> list[dict[str, Any]]:
    """Measure every pipeline on rows of realistic lengths, the serial one on the first `serial` rows."""
    from ..bench.magpie_shape import RunShape, draw_fates, our_cost, their_cost
    from ..bench.writers import batched
    from ..bench.writers import serial as one_by_one

    with checkpoint_folder(name) as folder:
        ours, theirs = load_ours(folder), load_theirs(folder)
    shape = RunShape(rows=rows, slots=batch)
    fates = draw_fates(shape, 0)
    our_cost(ours, shape, fates[:2])
    their_cost(batched(theirs, frozenset(), batch), shape, fates[:2])
    mine = our_cost(ours, shape, fates)
    staged = their_cost(batched(theirs, frozenset(), batch), shape, fates)
    few = their_cost(one_by_one(theirs, frozenset()), shape, fates[:serial])
    factor = rows / serial
    sides = [
        ("mlx-suite", mine.seconds, mine.prefilled, mine.decoded),
        ("mlx-lm, two stages", staged.seconds, staged.prefilled, staged.decoded),
        ("mlx-lm, serial", few.seconds * factor, few.prefilled * factor, few.decoded * factor),
    ]
    return [
        {
            "side": side,
            "accepted": mine.kept,
            "asked": rows,
            "seconds": round(seconds, 2),
            "accepted_per_hour": round(mine.kept / seconds * 3600),
            "prefilled_per_row": round(prefilled / mine.kept, 1),
            "decoded_per_row": round(decoded / mine.kept, 1),
            "ratio": round(seconds / mine.seconds, 2),
        }
        for side, seconds, prefilled, decoded in sides
    ]


@contextmanager
def _checkpoint(model: str) -> "Iterator[BenchCheckpoint]":
    from mlx_suite.text import load_chat_template, load_tokenizer

    from ..bench.magpie import BenchCheckpoint

    with checkpoint_folder(model) as folder:
        yield BenchCheckpoint(
            ours=load_ours(folder),
            theirs=load_theirs(folder),
            tokenizer=load_tokenizer(folder),
            template=load_chat_template(folder),
        )


def _pace(pace: "Pace", first: "Pace") -> dict[str, Any]:
    return {
        "side": pace.side,
        "accepted": round(pace.accepted),
        "asked": round(pace.asked),
        "seconds": round(pace.seconds, 2),
        "accepted_per_hour": round(pace.per_hour),
        "prefilled_per_row": round(pace.prefilled / max(pace.accepted, 1), 1),
        "decoded_per_row": round(pace.decoded / max(pace.accepted, 1), 1),
        "ratio": round(first.per_hour / max(pace.per_hour, 1e-9), 2),
    }


def _show(title: str, sides: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("pipeline", no_wrap=True)
    for heading in ("rows", "kept", "s", "kept/h", "prefill", "decode", "slower"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in sides:
        table.add_row(
            each["side"],
            f"{each['asked']:,}",
            f"{each['accepted']:,}",
            f"{each['seconds']:.1f}",
            f"{each['accepted_per_hour']:,}",
            f"{each['prefilled_per_row']:,.0f}",
            f"{each['decoded_per_row']:,.0f}",
            f"{each['ratio']:.1f}x",
        )
    console = Console()
    console.print(table)
    console.print()
