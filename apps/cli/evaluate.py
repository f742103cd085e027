"""`mlx-suite evaluate`: benchmark tasks of EleutherAI's lm-evaluation-harness."""

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
    tasks: Annotated[str, typer.Option(metavar="A,B", help="Task names; `lm-eval ls tasks` lists them.")],
    adapter: AdapterFolder = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Maximum questions per task. Default: all.")
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Few-shot examples per question. Default: the task's setting."),
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Format questions with the model's chat template.")] = False,
    include: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with your own tasks, as the harness's YAML files.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, metavar="ROWS", help="Responses generated concurrently.")] = 16,
    context: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="Context in tokens. Default: 4,096, or the model's if shorter."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of few-shot examples and of sampled responses.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Output file, in JSON.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run benchmark tasks of the lm-evaluation-harness on a model.

    Needs `pip install 'mlx-suite[harness]'`. Tasks download their data from the hub, except your own tasks.

    Example: `mlx-suite evaluate OWNER/REPO --tasks arc_easy,hellaswag --limit 200`
    """
    from mlx_suite.evaluate.tasks import require_harness, run_tasks

    require_harness()
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise UserError("No task is given", where="--tasks", fix="for example, --tasks arc_easy,hellaswag")
    from mlx_suite.evaluate.harness import HarnessModel
    from mlx_suite.runtime.files import write_atomically

    checkpoint = open_checkpoint(model, quiet, adapter)
    harness = HarnessModel(
        checkpoint.model,
        checkpoint.tokenizer,
        checkpoint.template if chat else None,
        name=checkpoint.name,
        slots=batch,
        context=context,
        seed=seed,
        quiet=quiet,
    )
    figures = run_tasks(harness, names, limit=limit, shots=shots, chat=chat, include=include, seed=seed)
    facts: dict[str, Any] = {
        "model": checkpoint.name,
        "adapter": checkpoint.adapter,
        "chat": chat,
        "limit": limit,
        "context": harness.max_length,
        "cut_contexts": harness.cut.contexts,
        "cut_limits": harness.cut.limits,
        "figures": [figure.as_dict() for figure in figures],
    }
    if out is not None:
        write_atomically(out, json.dumps(facts, indent=2) + "\n")
    if as_json:
        print(json.dumps(facts))
        return
    Console(highlight=False).print(_table(figures))
    if harness.cut.contexts:
        print(f"{harness.cut.contexts:,} questions exceeded {harness.max_length:,} tokens and lost their beginning")
    if harness.cut.limits:
        print(f"{harness.cut.limits:,} token limits exceeded the context and were reduced to half of it")
    if limit is not None:
        print(f"Only the first {limit:,} questions of each task were used: do not publish these results")


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
