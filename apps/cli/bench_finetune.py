"""`mlx-suite bench finetune`: training beside mlx-lm's trainer, and TRL's where it is installed."""

import json as json_format
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from .random_models import RANDOM, SMALL, WIDE, checkpoint_folder

if TYPE_CHECKING:
    from ..bench.finetuning import TrainerComparison, TrainerFigures
    from ..bench.training_rows import TrainingRows

DEFAULT = ["tiny-llama3", *SMALL, "wide-llama"]
NAMES = ", ".join([*SMALL, *RANDOM, *WIDE])


def finetune(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help=f"Names, folders, or random weights: {NAMES}.")
    ] = None,
    batches: Annotated[int | None, typer.Option(min=1, help="Batches of examples that a pass has.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Timed passes; medians are printed.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two batches and one pass: does it run at all?")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """LoRA beside mlx-lm's trainer: trained tokens per second, padding, peak memory, and what was learned.

    All sides train the same weights on the same rows, in turn, each in a process of its own. mlx-lm runs through its
    own `train`, with its own batches and loss; TRL with PEFT on torch takes part where it is installed. Lengths are
    log-normal. The models with wide vocabularies are there for memory: their head weighs most, and mlx-lm takes
    4.5 GB for wide-llama and 11 GB for wide-gemma2.

    Example: mlx-suite bench finetune tiny-llama3
    """
    from ..bench.finetuning import compare, present_trainers

    trainers = present_trainers()
    console = Console()
    report = []
    for name in models or (DEFAULT[:1] if quick else DEFAULT):
        rows = _rows(name, batches or (2 if quick else None), repeats or (1 if quick else None))
        with checkpoint_folder(name) as folder:
            # torch on a CPU holds several copies of all logits.
            taking_part = trainers[:2] if name in WIDE else trainers
            comparison = compare(folder, rows, taking_part)
        if json:
            report.append(_as_dict(name, comparison))
        else:
            _show(console, name, comparison)
    if json:
        typer.echo(json_format.dumps(report, indent=2))


def _rows(name: str, batches: int | None, repeats: int | None) -> "TrainingRows":
    """What a model is trained on: fewer and longer documents where memory is in question."""
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
    for heading in ("trainer", "tok/s", "pad", "steps", "MB", "all MB", "loss"):
        table.add_column(heading, justify="left" if heading == "trainer" else "right")
    for side in comparison.sides:
        table.add_row(*_cells(side))
    console.print(table)
    counted = comparison.sides[1].counted
    console.print(
        f"speed {comparison.speed_ratio:.2f}x, memory {comparison.memory_ratio:.2f}x of mlx-lm's. A pass trains "
        f"{comparison.trained:,} tokens ({counted:,} by mlx-lm's count); held-out loss {comparison.loss_before:.3f} "
        "before.",
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
