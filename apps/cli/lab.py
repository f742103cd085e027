"""`mlx-suite lab`: pretraining arms by recipe, and measured experiments, with seeds, tables, plots and a verdict."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlx_suite.runtime.errors import UserError

from .flags import AsJson, OutFolder, Quiet, print_json, resumable

if TYPE_CHECKING:
    from ..lab.experiment import Experiment, LabOptions


def lab(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A recipe or an experiment (--list names them), or a recipe's YAML file."),
    ] = "",
    out: OutFolder = Path("lab"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Experiments: a version of one or two minutes, too small for a verdict.")
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Experiments: number of seeds. Default: 3, or 1 with --quick; more can be added."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="Experiments: measure a checkpoint of your own too (window).")
    ] = "",
    text: Annotated[str, typer.Option(metavar="FILE", help="Experiments: a text to measure --model on.")] = "",
    page: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Experiments: write a Markdown page too, its figures and results beside it: docs/labs/NAME.md.",
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Recipes: models trained at the same time, sharing the cores; faster for very small models.",
        ),
    ] = 1,
    list_names: Annotated[bool, typer.Option("--list", help="Show the recipes and experiments, and exit.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be trained or measured, and exit.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare arms with several seeds, score them alike, and say what differs and what was not shown.

    A recipe pretrains models on different texts at equal budgets. An experiment measures one choice, such as the
    sliding window. DIR gets index.html, the tables (table.md), results.json, and a folder for every trial. A lab that
    was stopped or killed resumes with the same command; more seeds can be added later.

    Example: `mlx-suite lab quick --out lab/`

    Example: `mlx-suite lab window --quick --out lab/window`
    """
    from ..lab.experiment import LabOptions, experiment_names, read_experiment
    from ..lab.recipe import shipped_recipes

    if list_names or not name:
        for each, title in shipped_recipes().items():
            print(f"{each:<12} recipe      {title}")
        for each in experiment_names():
            print(f"{each:<12} experiment  {read_experiment(each).title}")
        return
    if name not in experiment_names():
        _run_recipe(name, out, jobs=jobs, plan=plan, as_json=as_json, quiet=quiet)
        return
    if jobs > 1:
        raise UserError(
            "An experiment measures one case at a time, because measurements would disturb each other",
            where="--jobs",
            fix="leave it out",
        )
    experiment = read_experiment(name)
    if (model or text) and not experiment.takes_model:
        raise UserError(
            f"The experiment {name} uses no model or text of your own",
            where="--model" if model else "--text",
            fix="leave it out",
        )
    options = LabOptions(quick=quick, seeds=seeds or (1 if quick else LabOptions.seeds), model=model, text=text)
    _run_experiment(name, experiment, options, out, page=page, plan=plan, as_json=as_json, quiet=quiet)


def _run_recipe(name: str, out: Path, *, jobs: int, plan: bool, as_json: bool, quiet: bool) -> None:
    from ..lab.experiment import experiment_names
    from ..lab.recipe import read_recipe, trials_of

    chosen = read_recipe(name, also=experiment_names())
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


def _run_experiment(
    name: str,
    experiment: "Experiment",
    options: "LabOptions",
    out: Path,
    *,
    page: Path | None,
    plan: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    if plan:
        cases = experiment.cases(options)
        print(f"{len(cases)} measurements")
        for case in cases:
            print(f"{case.arm:<30} seed {case.seed}")
        return
    from ..lab.measure import run_experiment, write_experiment

    with resumable(f"Finished measurements are in {out}"):
        results = run_experiment(name, options, out, tell=_silent if quiet else _tell)
    written = write_experiment(name, results, options, out, markdown=page)
    findings = written.findings
    if as_json:
        print_json({"folder": str(out), "verdict": list(findings.verdict), "trials": list(results)})
        return
    print(written.tables)
    print("\n".join(findings.verdict))
    print(f"Not shown: {experiment.not_shown}")
    print(f"page: {out / 'index.html'}{f', {page}' if page else ''}")


def _tell(line: str) -> None:
    typer.echo(line, err=True)


def _silent(line: str) -> None:
    return None
