"""Train the shipped checkpoints again, or measure the ones that are there."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mlx_suite.pretrain import RECIPES
from mlx_suite.runtime.errors import UserError

from ..cli.main import run_app

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Names = Annotated[list[str] | None, typer.Argument(help=f"{', '.join(RECIPES)}; all of them by default.")]
Runs = Annotated[Path, typer.Option("--runs", help="Where rows, checkpoints and metrics of the training are kept.")]
Models = Annotated[Path, typer.Option("--models", help="Where the finished checkpoints go.")]


@app.command()
def make(names: Names = None, runs: Runs = Path("runs"), models: Models = Path("models")) -> None:
    """Train, save, measure and describe. Takes hours on two cores; a killed run goes on where it was."""
    from mlx_suite.modeling.saving import save_model
    from mlx_suite.pretrain.make import finish_tokenizer, make_model
    from mlx_suite.runtime.heap import keep_freed_blocks

    from .card import write_card
    from .measure import measure_checkpoint

    keep_freed_blocks()
    for name in chosen(names):
        recipe = RECIPES[name]
        model = make_model(recipe, runs / name)
        tokenizer = finish_tokenizer(recipe, runs / name)
        save_model(models / name, model, dtype="bfloat16", tokenizer_from=tokenizer)
        write_card(models / name, recipe, runs / name, measure_checkpoint(models / name))
        typer.echo(f"{name}: finished in {models / name}")


@app.command()
def measure(names: Names = None, models: Models = Path("models")) -> None:
    """Accuracy on held-out instructions, and what 1,000 Magpie rows at temperature 1 are worth, as JSON."""
    from .measure import measure_checkpoint

    for name in chosen(names):
        typer.echo(json.dumps({"model": name} | measure_checkpoint(models / name).as_dict(), indent=2))


def chosen(names: list[str] | None) -> list[str]:
    """The names, all of them known."""
    unknown = [name for name in names or () if name not in RECIPES]
    if unknown:
        raise UserError(
            what=f"no recipe is called {', '.join(unknown)}", fix=f"name one of {', '.join(RECIPES)}, or none for all"
        )
    return names or list(RECIPES)


if __name__ == "__main__":
    run_app(app)
