"""Train the shipped checkpoints, or measure existing ones."""

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_suite.runtime.errors import UserError

from ..cli.main import run_app
from .plans import PLANS
from .synthesizer import NAME as SYNTHESIZER

if TYPE_CHECKING:
    from .make import Beginning

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

NAMES = (*PLANS, SYNTHESIZER)
Names = Annotated[list[str] | None, typer.Argument(help=f"{', '.join(NAMES)}. Default: all.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder for training rows, checkpoints and metrics.")]
From = Annotated[
    Path | None,
    typer.Option("--from", help="Checkpoint to start from, such as models/tiny-llama3.", metavar="DIR"),
]
FromPhase = Annotated[
    int | None, typer.Option("--from-phase", help="First phase to train with --from, counted from 1.", min=1)
]
Models = Annotated[Path, typer.Option("--models", help="Folder for the finished checkpoints.")]


@app.command()
def make(
    names: Names = None,
    runs: Runs = Path("runs"),
    models: Models = Path("models"),
    checkpoint: From = None,
    from_phase: FromPhase = None,
) -> None:
    """Train, save and measure checkpoints and write their cards. Takes hours on two cores; a killed run resumes."""
    from mlx_suite.checkpoints.save import save_model
    from mlx_suite.runtime.memory import keep_freed_blocks

    from .card import earlier_phases, write_card
    from .make import finish_tokenizer, make_model
    from .measure import measure_checkpoint

    beginning = beginning_of(names, checkpoint, from_phase)
    keep_freed_blocks()
    for name in chosen(names):
        if name == SYNTHESIZER:
            _make_synthesizer(runs / name, models / name)
            continue
        plan = PLANS[name]
        model = make_model(plan, runs / name, beginning)
        earlier = {} if beginning is None else earlier_phases(beginning.checkpoint)
        tokenizer = finish_tokenizer(plan, runs / name)
        save_model(models / name, model, dtype="bfloat16", tokenizer_from=tokenizer)
        write_card(models / name, plan, runs / name, measure_checkpoint(models / name), earlier)
        typer.echo(f"{name}: finished in {models / name}")


@app.command()
def measure(names: Names = None, models: Models = Path("models")) -> None:
    """Measure held-out accuracy, 1,000 rows sampled at temperature 1, steering and tags; print JSON."""
    from .measure import measure_checkpoint
    from .synthesizer_card import measure_synthesizer

    for name in chosen(names):
        if name == SYNTHESIZER:
            with TemporaryDirectory() as folder:
                measured = measure_synthesizer(models / name, Path(folder) / "written")
            typer.echo(json.dumps({"model": name} | asdict(measured), indent=2))
            continue
        typer.echo(json.dumps({"model": name} | measure_checkpoint(models / name).as_dict(), indent=2))


def _make_synthesizer(run: Path, checkpoint: Path) -> None:
    from .synthesizer import make_synthesizer, save_synthesizer
    from .synthesizer_card import measure_synthesizer, write_synthesizer_card

    save_synthesizer(make_synthesizer(run), run, checkpoint)
    write_synthesizer_card(checkpoint, run, measure_synthesizer(checkpoint, run / "written"))
    typer.echo(f"{SYNTHESIZER}: finished in {checkpoint}")


def beginning_of(names: list[str] | None, checkpoint: Path | None, phase: int | None) -> "Beginning | None":
    """The checkpoint and phase to start from; None to train from scratch."""
    from .make import Beginning

    if checkpoint is None and phase is None:
        return None
    if checkpoint is None or phase is None or names is None or len(names) != 1:
        raise UserError(
            "Starting from a checkpoint needs --from, --from-phase and exactly one name",
            where="make",
            fix="make tiny-llama3 --from models/tiny-llama3 --from-phase 8",
        )
    return Beginning(checkpoint=checkpoint, phase=phase)


def chosen(names: list[str] | None) -> list[str]:
    """Return the names, or all names if none is given. Raises UserError for an unknown one."""
    unknown = [name for name in names or () if name not in NAMES]
    if unknown:
        raise UserError(
            what=f"Unknown checkpoint: {', '.join(unknown)}", fix=f"use {' or '.join(NAMES)}, or no name for all"
        )
    return names or list(NAMES)


if __name__ == "__main__":
    run_app(app)
