"""`mlx-suite bench magpie`: accepted rows per hour beside mlx-lm's two ways of writing many texts."""

import json as json_format
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .both_sides import our_model, their_model
from .random_models import checkpoint_folder

if TYPE_CHECKING:
    from ..bench.magpie import BenchCheckpoint, Pace, Target


def magpie(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="A checkpoint that can write rows.")] = "tiny-llama3",
    count: Annotated[int, typer.Option(min=3, help="Accepted rows of each side.")] = 150,
    batch: Annotated[int, typer.Option(min=2, help="Rows at a time, of both batched sides.")] = 32,
    serial: Annotated[int, typer.Option(min=1, help="Rows on which the serial side is timed.")] = 24,
    shape: Annotated[str, typer.Option(help="Random weights for rows of real lengths.")] = "random-llama-7m",
    rows: Annotated[int, typer.Option(min=2, help="Rows of those lengths.")] = 96,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Accepted Magpie rows per hour beside mlx-lm's batches in two stages and beside a serial loop.

    All sides run the same weights, and one judge decides what is accepted. For each target: rows that are whole and
    new; those that are also tagged as good; those of three categories, with and without steering. Then the same for
    rows of real lengths, short questions and long answers, on random weights: there a third of the rows is kept.

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
        _show(f"rows of real lengths, {shape}", costs)


def measure(checkpoint: "BenchCheckpoint", target: "Target", count: int, batch: int, serial_rows: int) -> "list[Pace]":
    """Every side on one target, ours first; with quotas, ours comes a second time without steering."""
    from ..bench.magpie import our_pace, serial_pace, staged_pace
    from ..bench.writers import batched, serial

    settings = target.settings_for(count, batch, steer=False)
    steered = target.settings_for(count, batch, steer=True)
    stops = frozenset(checkpoint.tokenizer.stop_ids)
    # Kernels are compiled and files are read before anything is timed, on either side.
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
    """Rows of real lengths on random weights; the serial side is timed on the first few."""
    from ..bench.magpie_shape import RunShape, draw_fates, our_cost, their_cost
    from ..bench.writers import batched
    from ..bench.writers import serial as one_by_one

    with checkpoint_folder(name) as folder:
        ours, theirs = _both(folder)
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
        ours, theirs = _both(folder)
        yield BenchCheckpoint(
            ours=ours, theirs=theirs, tokenizer=load_tokenizer(folder), template=load_chat_template(folder)
        )


def _both(folder: Path) -> tuple[Any, Any]:
    """Our model and mlx-lm's of the same weights."""
    return our_model(folder), their_model(folder)


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
    table.add_column("side", no_wrap=True)
    for heading in ("asked", "kept", "s", "kept/hour", "fed/row", "written/row", "slower"):
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
