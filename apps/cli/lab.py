"""`mlx-suite lab`: an experiment with arms, seeds, tables, plots and a verdict."""

from pathlib import Path
from typing import Annotated

import typer

from .flags import AsJson, OutFolder, Quiet, print_json, resumable


def lab(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A YAML file, or a recipe of mlx-suite: --list names them."),
    ] = "",
    out: OutFolder = Path("lab"),
    jobs: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Models trained at the same time, sharing the cores; faster for very small models."
        ),
    ] = 1,
    list_recipes: Annotated[bool, typer.Option("--list", help="Show the recipes of mlx-suite and exit.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be trained and exit.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train several arms with several seeds at equal budgets, score them alike, and say what differs.

    DIR gets index.html, the table (table.md), results.json, the texts of every arm and a folder for every model. A lab
    that was stopped or killed goes on with the same command; more seeds can be added later.

    Example: `mlx-suite lab quick --out lab/`

    Example: `mlx-suite lab knowledge --out lab/ --jobs 2`
    """
    from ..lab.recipe import read_recipe, shipped_recipes, trials_of

    if list_recipes or not recipe:
        for name, title in shipped_recipes().items():
            print(f"{name:<12} {title}")
        return
    chosen = read_recipe(recipe)
    trials = trials_of(chosen)
    if plan:
        tokens = len(trials) * chosen.training.tokens
        print(f"{len(trials)} models, {chosen.training.tokens:,} tokens each, {tokens:,} in all")
        for trial in trials:
            print(f"{trial.arm:<18} synthetic share {trial.share:<5g} seed {trial.seed}")
        return
    from ..lab.lab import run_lab, write_lab

    with resumable(f"Finished trials are in {out}"):
        results = run_lab(chosen, out, jobs=jobs, tell=_silent if quiet else _tell)
    report = write_lab(results, chosen, out)
    if as_json:
        print_json({"folder": str(out), "verdict": report.verdict, "trials": list(results)})
    else:
        print(report.table)
        print("\n".join(report.verdict))
        print(f"page: {out / 'index.html'}")


def _tell(line: str) -> None:
    typer.echo(line, err=True)


def _silent(line: str) -> None:
    return None
