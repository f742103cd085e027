"""`mlx-suite evaluate`: tasks of EleutherAI's lm-evaluation-harness."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from mlx_suite.runtime.errors import UserError

from .checkpoint import open_checkpoint
from .flags import AdapterFolder, AsJson, ModelName, Quiet

if TYPE_CHECKING:
    from mlx_suite.evaluate.tasks import TaskFigure


def evaluate(
    model: ModelName,
    tasks: Annotated[str, typer.Option(metavar="A,B", help="Names of tasks; `lm-eval ls tasks` lists them.")],
    adapter: AdapterFolder = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Questions of each task; all if left out.")
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Solved examples before each question; the task's own number."),
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Put each question in the model's chat template.")] = False,
    include: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder with tasks of your own, as the harness's YAML.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, metavar="ROWS", help="Answers that are written at a time.")] = 16,
    context: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="Tokens that are read at a time; 4,096 or what the model can."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the choice of examples, and of answers that are drawn.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="The figures as JSON.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run benchmark tasks of the lm-evaluation-harness on a model.

    It is an extra: `pip install 'mlx-suite[harness]'`. Tasks fetch their data from the hub, except those of your own.

    Example: `mlx-suite evaluate OWNER/REPO --tasks arc_easy,hellaswag --limit 200`
    """
    from mlx_suite.evaluate.tasks import require_harness, run_tasks

    require_harness()
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise UserError("There is no task", where="--tasks", fix="name some: --tasks arc_easy,hellaswag")
    from mlx_suite.evaluate.harness import HarnessModel
    from mlx_suite.runtime.files import write_atomically

    checkpoint = open_checkpoint(model, quiet, adapter)
    asked = HarnessModel(
        checkpoint.model,
        checkpoint.tokenizer,
        checkpoint.template if chat else None,
        name=checkpoint.name,
        slots=batch,
        context=context,
        seed=seed,
        quiet=quiet,
    )
    figures = run_tasks(asked, names, limit=limit, shots=shots, chat=chat, include=include, seed=seed)
    facts: dict[str, Any] = {
        "model": checkpoint.name,
        "adapter": checkpoint.adapter,
        "chat": chat,
        "limit": limit,
        "context": asked.max_length,
        "cut_contexts": asked.cut.contexts,
        "cut_limits": asked.cut.limits,
        "figures": [figure.as_dict() for figure in figures],
    }
    if out is not None:
        write_atomically(out, json.dumps(facts, indent=2) + "\n")
    if as_json:
        print(json.dumps(facts))
        return
    Console(highlight=False).print(_table(figures))
    if asked.cut.contexts:
        print(f"{asked.cut.contexts:,} questions were longer than {asked.max_length:,} tokens and cut from the left")
    if asked.cut.limits:
        print(f"{asked.cut.limits:,} answers were to be longer than the model's context, and may have half of it")
    if limit is not None:
        print(f"The first {limit:,} questions of each task: a quick look, not a figure to publish")


def _table(figures: "tuple[TaskFigure, ...]") -> Table:
    table = Table(box=box.HORIZONTALS, pad_edge=False, header_style="bold")
    for name in ("task", "metric", "shots", "questions"):
        table.add_column(name)
    table.add_column("value", justify="right")
    for figure in figures:
        error = "" if figure.error is None else f" ± {figure.error:.4f}"
        metric = figure.metric if figure.filter == "none" else f"{figure.metric} ({figure.filter})"
        cells = (figure.shots, figure.samples)
        table.add_row(
            figure.task, metric, *("" if cell is None else f"{cell:,}" for cell in cells), f"{figure.value:.4f}{error}"
        )
    return table
