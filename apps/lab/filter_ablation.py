"""Ablation of the filters: students finetuned on equally many rows, selected in different ways.

A teacher generates and tags a pool of rows at a temperature at which it makes mistakes. From the pool come sets of one
size: the first rows, random rows, rows that pass a filter on the tags, the longest rows, and rows that the microworld's
checker confirms (the upper bound: no filter knows the truth). A student of another family is finetuned on each set with
several seeds and scored by the checker on held-out instructions.

    python -m mlx_suite_apps.lab.filter_ablation runs/ablation

A stopped run resumes: the pool and every result are kept. Other settings need another folder.
"""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically
from mlx_suite.runtime.journal import Journal, read_journal

from ..cli.main import run_app

TEACHER, STUDENT = "tiny-llama3", "tiny-gemma2"
TEMPERATURE = 1.2
CONDITIONS = ("input_quality >= good", "answer_quality >= good")
HELDOUT = 600
"""Held-out instructions that every student answers."""
HELDOUT_SEED = 11
KIND = "mlx-suite filter ablation"
UNTRAINED, RAW, TAGGED = "no finetuning", "first rows, unfiltered", "filtered by tags"

Row = dict[str, Any]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def filter_ablation(
    folder: Annotated[Path, typer.Argument(help="Folder of the pool, the training sets and the results.")],
    pool: Annotated[int, typer.Option(min=10, help="Rows in the pool that the teacher generates.")] = 2000,
    size: Annotated[int, typer.Option(min=5, help="Rows in each training set; fewer if fewer pass the filter.")] = 500,
    seeds: Annotated[int, typer.Option(min=2, help="Finetuning runs on each set.")] = 3,
    teacher: Annotated[str, typer.Option(help="Model that generates the rows.")] = TEACHER,
    student: Annotated[str, typer.Option(help="Model that is finetuned on them.")] = STUDENT,
) -> None:
    """Finetune on first, random, filtered, longest and confirmed rows; print mean accuracy and standard deviation."""
    from mlx_suite.runtime.stage import open_stage

    console = Console(highlight=False)
    facts = {"teacher": teacher, "student": student, "pool": pool, "size": size, "temperature": TEMPERATURE}
    with open_stage(folder, KIND, facts):
        rows = make_pool(teacher, folder / "pool", pool)
        pools = pools_of(rows, filtered(folder / "pool"))
        size = min(size, *map(len, pools.values()))
        if size < 5:
            raise UserError(
                "Fewer than 5 rows pass the filter, or fewer than 5 are right",
                where=str(folder),
                fix="write a larger pool with --pool, in another folder",
            )
        draws = sets(rows, pools, size)
        console.print(f"pool       {len(rows):,} rows of {teacher} at temperature {TEMPERATURE}")
        console.print(f"filter     {' and '.join(CONDITIONS)}: {len(pools[TAGGED]):,} pass")
        console.print(f"sets       {size:,} rows each")
        show(console, measure(folder, draws, seeds, student, console), student, draws)


def make_pool(teacher: str, folder: Path, count: int) -> list[Row]:
    """Generate the teacher's tagged rows, before any filter; returns them in order."""
    from mlx_suite import load
    from mlx_suite.hub.resolve import resolve
    from mlx_suite.magpie import MagpieSettings, make_dataset
    from mlx_suite.runtime.progress import Progress
    from mlx_suite.text import load_chat_template

    model, tokenizer = load(teacher)
    settings = MagpieSettings(
        count=count, temperature=TEMPERATURE, batch=32, near_duplicate=0.0, unsafe="keep", model_name=teacher
    )
    with Progress("pool", count) as progress:
        summary = make_dataset(
            model,
            tokenizer,
            load_chat_template(resolve(teacher)),
            settings,
            folder,
            lambda accepted, asked, in_flight: progress.update(accepted, asked=asked, in_flight=in_flight),
        )
    return list(summary.records())


def filtered(pool: Path) -> list[str]:
    """Ids of the rows that pass the filter on tags, near-duplicates removed."""
    from mlx_suite.curation.dataset import read_collection
    from mlx_suite.curation.filter.filter import choose
    from mlx_suite.curation.filter.settings import FilterSettings

    collection = read_collection(pool)
    chosen = choose(collection, FilterSettings(where=CONDITIONS, keep_first="lexical", threshold=0.9))
    return [collection.rows[number]["id"] for number in chosen.kept]


def pools_of(rows: Sequence[Row], chosen: Sequence[str]) -> dict[str, list[Row]]:
    """Rows to draw from at random, by the name of the selection."""
    from mlx_suite.curation.dataset import instruction_of, response_of
    from mlx_suite.microworld import Verdict, check, make_world

    world, good = make_world(), set(chosen)
    return {
        "random": list(rows),
        TAGGED: [row for row in rows if row["id"] in good],
        "right by the checker": [
            row for row in rows if check(instruction_of(row), response_of(row), world) is Verdict.RIGHT
        ],
    }


def sets(rows: Sequence[Row], pools: Mapping[str, Sequence[Row]], size: int) -> dict[str, Callable[[int], list[Row]]]:
    """Return functions that map a seed to `size` rows, by the name of the selection."""
    longest = sorted(rows, key=lambda row: -row["answer_tokens"])

    def drawn_from(pool: Sequence[Row]) -> Callable[[int], list[Row]]:
        return lambda seed: Random(f"worth {seed}").sample(list(pool), size)

    return {
        RAW: lambda seed: list(rows[:size]),
        "longest responses": lambda seed: longest[:size],
        **{name: drawn_from(pool) for name, pool in pools.items()},
    }


def measure(
    folder: Path, draws: Mapping[str, Callable[[int], list[Row]]], seeds: int, student: str, console: Console
) -> dict[str, list[float]]:
    """Measure the accuracy of every student, by selection, one value per seed; reuses results in `folder`."""
    path = folder / "results.jsonl"
    known = {(line["set"], line["seed"]): line["right"] for line in read_journal(path)} if path.exists() else {}
    with Journal(path) as journal:
        if (UNTRAINED, 0) not in known:
            known[UNTRAINED, 0] = accuracy(student, None)
            journal.append({"set": UNTRAINED, "seed": 0, "right": known[UNTRAINED, 0]})
        for seed in range(seeds):
            for name, draw in draws.items():
                if (name, seed) in known:
                    continue
                run = folder / "students" / f"{name.split(',')[0].replace(' ', '-')}-{seed}"
                right = accuracy(student, finetune_on(student, draw(seed), run, seed))
                journal.append({"set": name, "seed": seed, "right": right})
                known[name, seed] = right
                console.print(f"           {name}, seed {seed}: {right:.1%}")
    results: dict[str, list[float]] = {}
    for (name, seed), right in sorted(known.items(), key=lambda pair: pair[0][1]):
        if seed < seeds:
            results.setdefault(name, []).append(right)
    return results


def finetune_on(student: str, rows: Sequence[Row], run: Path, seed: int) -> Path:
    """Finetune a LoRA adapter on `rows`; returns the folder of the run."""
    from mlx_suite.finetune.prepare import prepare
    from mlx_suite.finetune.run import finetune
    from mlx_suite.finetune.settings import FinetuneSettings

    data = run.with_suffix(".jsonl")
    lines = (json.dumps({"messages": row["messages"]}, ensure_ascii=False) + "\n" for row in rows)
    write_atomically(data, "".join(lines))
    settings = FinetuneSettings(
        model=student,
        data=str(data),
        out=str(run),
        epochs=3,
        batch=8,
        learning_rate=1e-3,
        seed=seed,
        valid_share=0.0,
        eval_every=10_000,
    )
    finetune(settings, prepare(settings))
    return run


def accuracy(student: str, adapter: Path | None) -> float:
    """Accuracy of greedy responses to the held-out instructions."""
    from mlx_suite import load
    from mlx_suite.evaluate import measure_accuracy
    from mlx_suite.hub.resolve import resolve
    from mlx_suite.microworld import heldout_examples, make_world
    from mlx_suite.text import load_chat_template

    world = make_world()
    model, tokenizer = load(student, adapter=adapter)
    template = load_chat_template(resolve(student))
    by_category, _ = measure_accuracy(model, tokenizer, template, heldout_examples(HELDOUT_SEED, HELDOUT, world), world)
    return by_category.share


def show(
    console: Console,
    results: Mapping[str, Sequence[float]],
    student: str,
    draws: Mapping[str, Callable[[int], list[Row]]],
) -> None:
    """Print a row per selection: the share of right rows in the set, and the accuracy of its students."""
    from mlx_suite.evaluate.microworld import check_dataset

    table = Table(
        "rows", "right rows", "accuracy", "sd", title=f"Accuracy of {student}, finetuned on", title_justify="left"
    )
    for name, shares in results.items():
        truth = check_dataset(draws[name](0)) if name in draws else None
        deviation = f"{statistics.stdev(shares):.1%}" if len(shares) > 1 else ""
        table.add_row(name, f"{truth.share:.0%}" if truth else "", f"{statistics.mean(shares):.1%}", deviation)
    console.print(table)
    raw, good = (statistics.mean(results[name]) for name in (RAW, TAGGED))
    console.print(
        f"effect of the filter: {100 * (good - raw):+.1f} points of accuracy, compared with as many unfiltered rows"
    )


if __name__ == "__main__":
    run_app(app)
