"""Second half of `make demo`: finetuning, scored by the microworld's checker.

tiny-llama3 is finetuned twice: on rows it generated itself (`mlx-suite magpie run`) that the checker confirms, without
one family of tasks; then on the same rows plus that family, with right answers from the microworld. Before and after,
the model answers instructions that it was never trained on.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mlx_suite.runtime.errors import UserError

from ..cli.main import run_app

if TYPE_CHECKING:
    from mlx_suite.microworld import WorldExample

MODEL = "tiny-llama3"
FAMILY = "plan_of_day"
"""The family of tasks left out at first: a plan of the week, and "What do I do on Friday?"."""
TRY = f'mlx-suite generate {MODEL} "My week: Monday swim, Friday paint, Sunday cook. What is my plan for Friday?"'
FAMILY_ROWS = 240
DRAWN = 5000
"""Examples of the family to sample, more than it has distinct instructions."""
ASKED = 200
"""Number of unseen instructions of the other families; of this family all are used, a few tens."""

Row = Mapping[str, str]
"""An `instruction` and its `output`."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Output folder of `mlx-suite magpie run tiny-llama3`.")],
) -> None:
    """Finetune tiny-llama3 with and without one family of tasks, and print its accuracy."""
    console = Console(highlight=False)
    own = own_rows(folder)
    family = [{"instruction": each.instruction, "output": each.answer} for each in of_the_family(heldout=False)]
    family = family[:FAMILY_ROWS]
    console.print(f"rows       {len(own)} of its own: right, and not in the family {FAMILY}")
    console.print(f"           {len(family)} in the family, from the microworld")
    runs = {
        f"its own rows without {FAMILY}": finetune_on(own, folder / "finetune" / "without"),
        "the same rows with it": finetune_on([*own, *family], folder / "finetune" / "with"),
    }
    table = Table("finetuned on", FAMILY, "all others", title="Right answers to unseen instructions")
    for name, adapter in {"nothing": None, **runs}.items():
        table.add_row(name, *(f"{right} of {asked}, {right / asked:.0%}" for right, asked in accuracy(adapter)))
    console.print(table)
    console.print(f"try it     {TRY} --adapter {runs['the same rows with it']}", soft_wrap=True)


def own_rows(folder: Path) -> list[Row]:
    """Accepted Magpie rows with a right answer, without those of the family."""
    from mlx_suite.microworld import Verdict, check, identify, make_world

    accepted, world = folder / "accepted.jsonl", make_world()
    if not accepted.exists():
        raise UserError(
            "There are no Magpie rows", where=str(folder), fix=f"mlx-suite magpie run {MODEL} --out {folder}"
        )
    rows: list[Row] = []
    for line in accepted.read_text(encoding="utf-8").splitlines():
        question, answer = (message["content"] for message in json.loads(line)["messages"][-2:])
        found = identify(question)
        if found and found[0].name != FAMILY and check(question, answer, world) is Verdict.RIGHT:
            rows.append({"instruction": question, "output": answer})
    return rows


def of_the_family(heldout: bool) -> list["WorldExample"]:
    """Distinct instructions of the family with right answers, from the held-out twentieth or from the rest."""
    from mlx_suite.microworld import TASKS, is_heldout, make_world, sample_example

    [task] = [task for task in TASKS if task.name == FAMILY]
    world, random = make_world(), Random(1)
    drawn = (sample_example(random, world, [task]) for _ in range(DRAWN))
    return list({each.instruction: each for each in drawn if is_heldout(each.instruction) is heldout}.values())


def finetune_on(rows: Sequence[Row], run: Path) -> Path:
    """Train a LoRA adapter on `rows`; returns the folder of the run."""
    from mlx_suite.finetune.prepare import prepare
    from mlx_suite.finetune.run import RunCallbacks, finetune
    from mlx_suite.finetune.settings import FinetuneSettings
    from mlx_suite.runtime.progress import Progress

    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    data = run.with_suffix(".jsonl")
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = FinetuneSettings(
        model=MODEL, data=str(data), out=str(run), epochs=4, batch=8, learning_rate=3e-3, eval_every=1000
    )
    bars: list[Progress] = []
    callbacks = RunCallbacks(
        begin=lambda trainable, plan, state: bars.append(
            Progress(f"finetune {run.name}", plan.settings.steps, unit="steps").__enter__()
        ),
        step=lambda number, loss, trained: bars[0].update(number, loss=f"{loss:.3f}"),
    )
    try:
        finetune(settings, prepare(settings), callbacks=callbacks)
    finally:
        for bar in bars:
            bar.__exit__(None, None, None)
    return run


def accuracy(adapter: Path | None) -> list[tuple[int, int]]:
    """Return (right, asked) for the family and for all other families."""
    from mlx_suite import load
    from mlx_suite.evaluate import measure_accuracy
    from mlx_suite.hub.resolve import resolve
    from mlx_suite.microworld import heldout_examples, make_world
    from mlx_suite.text import load_chat_template

    world = make_world()
    others = [each for each in heldout_examples(0, ASKED, world) if each.task != FAMILY]
    model, tokenizer = load(MODEL, adapter=adapter)
    counted = []
    for asked in (of_the_family(heldout=True), others):
        by_category, _ = measure_accuracy(model, tokenizer, load_chat_template(resolve(MODEL)), asked, world)
        counted.append((sum(by_category.right.values()), len(asked)))
    return counted


if __name__ == "__main__":
    run_app(app)
