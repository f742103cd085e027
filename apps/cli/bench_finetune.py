"""`mlx-suite bench finetune`: our training compared with mlx-lm's, and with TRL's if it is installed."""

import json as json_format
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .bench_models import RANDOM, SMALL, WIDE, checkpoint_folder
from .flags import AsJson

if TYPE_CHECKING:
    from ..bench.finetuning import TrainerComparison, TrainerFigures
    from ..bench.training_rows import TrainingRows

DEFAULT = ["tiny-llama3", *SMALL, "wide-llama"]
NAMES = ", ".join([*SMALL, *RANDOM, *WIDE])


def finetune(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help=f"Names, folders, or random weights: {NAMES}.")
    ] = None,
    batches: Annotated[int | None, typer.Option(min=1, help="Batches per pass over the data.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Timed passes; medians are printed.")] = None,
    batching: Annotated[
        str,
        typer.Option(
            help="pack: ours packs documents, the others pad them, as each does by default; bucket: all pad; "
            "pack-all: all pack."
        ),
    ] = "pack",
    longest: Annotated[int | None, typer.Option(min=16, help="Longest document in tokens. Default: 1024.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two batches and one pass, to check that it runs.")] = False,
    json: AsJson = False,
) -> None:
    """Compare LoRA training with mlx-lm's trainer: tokens per second, padding, peak memory, loss.

    All trainers train the same weights on the same rows, in turn, each in its own process. mlx-lm runs its own `train`
    with its own batches and loss; TRL with PEFT on torch runs too if it is installed. Lengths are log-normal. The
    models with wide vocabularies compare memory: their LM head dominates, and mlx-lm takes 4.5 GB for wide-llama and
    11 GB for wide-gemma2.

    Example: mlx-suite bench finetune tiny-llama3
    """
    from mlx_suite.runtime.errors import UserError

    from ..bench.finetuning import compare, present_trainers
    from ..bench.training_rows import BATCHINGS

    if batching not in BATCHINGS:
        raise UserError(f"--batching is {batching!r}", "--batching", f"use {' or '.join(BATCHINGS)}")
    trainers = present_trainers()
    console = Console()
    report = []
    for name in models or (DEFAULT[:1] if quick else DEFAULT):
        rows = replace(
            _rows(name, batches or (2 if quick else None), repeats or (1 if quick else None)), batching=batching
        )
        if longest is not None:
            rows = replace(rows, longest=longest)
        with checkpoint_folder(name) as folder:
            # With wide vocabularies torch would hold several copies of all logits.
            comparison = compare(folder, rows, trainers[:2] if name in WIDE else trainers)
        if json:
            report.append(_as_dict(name, comparison))
        else:
            _show(console, name if batching == "pack" else f"{name}, {batching}", comparison)
    if json:
        typer.echo(json_format.dumps(report, indent=2))


def _rows(name: str, batches: int | None, repeats: int | None) -> "TrainingRows":
    """Training rows for a model: fewer and longer ones for a memory comparison."""
    from ..bench.training_rows import TrainingRows

    rows = TrainingRows()
    if name in WIDE:
        rows = TrainingRows(rows=16, held_out=4, prompt=100, answer=100, spread=0.8, longest=512, repeats=1)
    if batches is not None:
        rows = replace(rows, rows=batches * rows.batch)
    return rows if repeats is None else replace(rows, repeats=repeats)


def _as_dict(name: str, comparison: "TrainerComparison") -> dict[str, Any]:
    return {
        "model": name,
        "rows": asdict(comparison.rows),
        "trained": comparison.trained,
        "loss_before": comparison.loss_before,
        "sides": [asdict(side) for side in comparison.sides],
        "speed_ratio": round(comparison.speed_ratio, 3),
        "memory_ratio": round(comparison.memory_ratio, 3),
    }


def _show(console: Console, name: str, comparison: "TrainerComparison") -> None:
    table = Table(title=name, title_justify="left", box=None, pad_edge=False)
    for heading in ("trainer", "tok/s", "pad", "steps", "MB", "RSS MB", "loss"):
        table.add_column(heading, justify="left" if heading == "trainer" else "right")
    for side in comparison.sides:
        table.add_row(*_cells(side))
    console.print(table)
    counted = comparison.sides[1].counted
    console.print(
        f"speed {comparison.speed_ratio:.2f}x, memory {comparison.memory_ratio:.2f}x of mlx-lm's. A pass trains "
        f"{comparison.trained:,} tokens ({counted:,} by mlx-lm's count); held-out loss before training: "
        f"{comparison.loss_before:.3f}",
        highlight=False,
    )


def _cells(side: "TrainerFigures") -> tuple[str, ...]:
    return (
        side.trainer,
        f"{side.tokens_per_second:,.0f}",
        f"{side.padding:.1%}",
        str(side.steps),
        "" if side.peak_bytes is None else f"{side.peak_bytes / 1e6:,.0f}",
        f"{side.resident_bytes / 1e6:,.0f}",
        f"{side.loss:.3f}",
    )
