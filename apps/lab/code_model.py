"""Steering a model tuned for one category: the instructions it generates without quotas and with them.

A code model asks about code. This script makes one: tiny-llama3 is finetuned on instructions and responses of the
microworld's coding tasks. It then generates rows three times: without quotas, with equal quotas for all twelve
categories that only reject surplus rows, and with the same quotas met by steering.

    python -m mlx_suite_apps.lab.code_model runs/code-model

`--model NAME` uses any other checkpoint with a chat template, without finetuning.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically

from ..cli.main import run_app

BASE = "tiny-llama3"
CATEGORY = "Coding & Debugging"
EXAMPLES = 600

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Categories and cost of one run."""

    rows: dict[str, int]
    """Accepted rows by category."""
    asked: int
    tokens_per_row: float
    """Generated tokens per accepted row, including those of rejected rows."""
    complete: bool
    """True if the quotas are met."""


@app.command()
def code_model(
    folder: Annotated[Path, typer.Argument(help="Folder of the model and its rows.")],
    model: Annotated[str | None, typer.Option(help="Checkpoint to use instead of the finetuned tiny-llama3.")] = None,
    count: Annotated[int, typer.Option(min=24, help="Rows in each run.")] = 120,
) -> None:
    """Show the categories of a model's rows without quotas, with quotas that only reject, and with steering."""
    from mlx_suite.microworld import CATEGORIES

    name = model or str(make_code_model(folder / "model"))
    count -= count % len(CATEGORIES)
    quotas = ("category:" + ",".join(f"{each}={count // len(CATEGORIES)}" for each in CATEGORIES),)
    runs = {
        "no quotas": write(name, folder / "free", count, quotas=()),
        "selected": write(name, folder / "selected", count, quotas=quotas, steer=False),
        "steered": write(name, folder / "steered", count, quotas=quotas),
    }
    show(Console(highlight=False), name, runs, list(CATEGORIES))


def make_code_model(folder: Path) -> Path:
    """Finetune tiny-llama3 on coding tasks and save a fused checkpoint in `folder`, unless it exists."""
    from mlx_suite.checkpoints.trained_run import adapter_folder
    from mlx_suite.export.fuse import fuse_checkpoint
    from mlx_suite.finetune.prepare import prepare
    from mlx_suite.finetune.run import finetune
    from mlx_suite.finetune.settings import FinetuneSettings
    from mlx_suite.hub.resolve import resolve
    from mlx_suite.microworld import TASKS, is_heldout, make_world, sample_example

    if (folder / "config.json").exists():
        return folder
    world, rng = make_world(), Random(5)
    tasks = [task for task in TASKS if task.category == CATEGORY]
    drawn = (sample_example(rng, world, tasks) for _ in range(20 * EXAMPLES))
    examples = list({each.instruction: each for each in drawn if not is_heldout(each.instruction)}.values())
    lines = ({"instruction": each.instruction, "output": each.answer} for each in examples[:EXAMPLES])
    data = folder.with_name("coding.jsonl")
    write_atomically(data, "".join(json.dumps(line) + "\n" for line in lines))
    settings = FinetuneSettings(
        model=BASE,
        data=str(data),
        out=str(folder.with_name("run")),
        method="lora",
        train_on="all",
        epochs=3,
        batch=8,
        learning_rate=1e-3,
        valid_share=0.0,
    )
    finetune(settings, prepare(settings))
    fuse_checkpoint(resolve(BASE), adapter_folder(Path(settings.out)), folder)
    return folder


def write(name: str, folder: Path, count: int, *, quotas: tuple[str, ...], steer: bool = True) -> Mix:
    """Generate `count` rows in `folder`; a yield too low for the quotas ends the run early."""
    from mlx_suite import load
    from mlx_suite.data.read.sources import ACCEPTED_FILE
    from mlx_suite.hub.resolve import resolve
    from mlx_suite.magpie import MagpieSettings, make_dataset
    from mlx_suite.magpie.manifest import read_manifest
    from mlx_suite.runtime.journal import read_journal
    from mlx_suite.text import load_chat_template

    model, tokenizer = load(name)
    settings = MagpieSettings(
        count=count, batch=32, quotas=quotas, steer=steer, embeddings=False, near_duplicate=0.9, unsafe="keep"
    )
    complete = True
    try:
        make_dataset(model, tokenizer, load_chat_template(resolve(name)), settings, folder)
    except UserError as error:
        print(f"{folder.name}: {error}")
        complete = False
    rows: dict[str, int] = {}
    for record in read_journal(folder / ACCEPTED_FILE):
        category = record["tags"]["category"]
        rows[category] = rows.get(category, 0) + 1
    counts: dict[str, Any] = (read_manifest(folder) or {})["counts"]
    written = counts["instruction_tokens"] + counts["answer_tokens"] + sum(counts["lost_tokens"].values())
    return Mix(rows=rows, asked=counts["asked"], tokens_per_row=written / max(counts["accepted"], 1), complete=complete)


def show(console: Console, name: str, runs: dict[str, Mix], categories: list[str]) -> None:
    """Print a row per category and a column per run."""
    table = Table("category, by tag", title=f"Accepted rows of {Path(name).name}", title_justify="left", box=None)
    for title in runs:
        table.add_column(title, justify="right")
    for category in categories:
        table.add_row(category, *(str(mix.rows.get(category, 0)) for mix in runs.values()))
    table.add_section()
    table.add_row("asked", *(str(mix.asked) for mix in runs.values()))
    table.add_row("tokens per row", *(f"{mix.tokens_per_row:.0f}" for mix in runs.values()))
    table.add_row("quotas met", *("" if not i else "yes" if m.complete else "no" for i, m in enumerate(runs.values())))
    console.print(table)


if __name__ == "__main__":
    run_app(app)
