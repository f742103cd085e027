"""Train the shipped checkpoints again, or measure the ones that are there."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_suite.pretrain import PLANS
from mlx_suite.runtime.errors import UserError

from ..cli.main import run_app

if TYPE_CHECKING:
    from mlx_suite.pretrain.make import Beginning

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Names = Annotated[list[str] | None, typer.Argument(help=f"{', '.join(PLANS)}; all of them by default.")]
Runs = Annotated[Path, typer.Option("--runs", help="Where rows, checkpoints and metrics of the training are kept.")]
From = Annotated[
    Path | None,
    typer.Option("--from", help="A checkpoint of an earlier make to go on from, as models/tiny-llama3.", metavar="DIR"),
]
FromPhase = Annotated[
    int | None, typer.Option("--from-phase", help="The first phase to train with --from, counted from 1.", min=1)
]
Models = Annotated[Path, typer.Option("--models", help="Where the finished checkpoints go.")]


@app.command()
def make(
    names: Names = None,
    runs: Runs = Path("runs"),
    models: Models = Path("models"),
    checkpoint: From = None,
    from_phase: FromPhase = None,
) -> None:
    """Train, save, measure and describe. Takes hours on two cores; a killed run goes on where it was."""
    from mlx_suite.checkpoints.save import save_model
    from mlx_suite.pretrain.make import finish_tokenizer, make_model
    from mlx_suite.runtime.memory import keep_freed_blocks

    from .card import earlier_phases, write_card
    from .measure import measure_checkpoint

    beginning = beginning_of(names, checkpoint, from_phase)
    keep_freed_blocks()
    for name in chosen(names):
        plan = PLANS[name]
        model = make_model(plan, runs / name, beginning)
        earlier = {} if beginning is None else earlier_phases(beginning.checkpoint)
        tokenizer = finish_tokenizer(plan, runs / name)
        save_model(models / name, model, dtype="bfloat16", tokenizer_from=tokenizer)
        write_card(models / name, plan, runs / name, measure_checkpoint(models / name), earlier)
        typer.echo(f"{name}: finished in {models / name}")


@app.command()
def measure(names: Names = None, models: Models = Path("models")) -> None:
    """Accuracy on held-out instructions, what 1,000 rows at temperature 1 are worth, steering and tags, as JSON."""
    from .measure import measure_checkpoint

    for name in chosen(names):
        typer.echo(json.dumps({"model": name} | measure_checkpoint(models / name).as_dict(), indent=2))


def beginning_of(names: list[str] | None, checkpoint: Path | None, phase: int | None) -> "Beginning | None":
    """Where a make goes on from, if it does not start at the beginning."""
    from mlx_suite.pretrain.make import Beginning

    if checkpoint is None and phase is None:
        return None
    if checkpoint is None or phase is None or names is None or len(names) != 1:
        raise UserError(
            "a make that goes on from a checkpoint needs --from, --from-phase and one plan",
            where="make",
            fix="make tiny-llama3 --from models/tiny-llama3 --from-phase 8",
        )
    return Beginning(checkpoint=checkpoint, phase=phase)


def chosen(names: list[str] | None) -> list[str]:
    """The names, all of them known."""
    unknown = [name for name in names or () if name not in PLANS]
    if unknown:
        raise UserError(
            what=f"no plan is called {', '.join(unknown)}", fix=f"name one of {', '.join(PLANS)}, or none for all"
        )
    return names or list(PLANS)


if __name__ == "__main__":
    run_app(app)
