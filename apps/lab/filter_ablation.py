"""What are the filters worth? The same number of rows, chosen in different ways, finetuned on and counted by a checker.

A teacher writes a pool of rows at a temperature at which it errs, and tags them. From the pool come sets of one
size: the first rows as they are, random rows, rows that the tags call good, the longest, and the rows that the
checker confirms, which no filter can know: the most that one could be worth. A student of another family is finetuned
on each with several seeds, and answers instructions that no training has seen.

    python -m mlx_suite_apps.lab.filter_ablation runs/worth

A stopped run goes on where it was: the pool and every result are kept. Other settings want another folder.
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
ASKED = 600
"""Unseen instructions that every student answers."""
HELDOUT_SEED = 11
KIND = "mlx-suite worth of filters"
RAW, TAGGED = "raw, the first ones", "filtered by tags"

Row = dict[str, Any]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def worth(
    folder: Annotated[Path, typer.Argument(help="Where the pool, the sets and the results are kept.")],
    pool: Annotated[int, typer.Option(min=10, help="Rows that the teacher writes.")] = 2000,
    size: Annotated[int, typer.Option(min=5, help="Rows of each set, at most as many as the smallest pool has.")] = 500,
    seeds: Annotated[int, typer.Option(min=2, help="Trainings on each set.")] = 3,
    teacher: Annotated[str, typer.Option(help="Writes the rows.")] = TEACHER,
    student: Annotated[str, typer.Option(help="Is finetuned on them.")] = STUDENT,
) -> None:
    """Finetune on raw, random, filtered, longest and confirmed rows of one size, and print mean and deviation."""
    from mlx_suite.magpie.stage import open_stage

    console = Console(highlight=False)
    facts = {"teacher": teacher, "student": student, "pool": pool, "size": size, "temperature": TEMPERATURE}
    with open_stage(folder, KIND, facts):
        rows = make_pool(teacher, folder / "pool", pool)
        pools = pools_of(rows, filtered(folder / "pool"))
        size = min(size, *map(len, pools.values()))
        if size < 5:
            raise UserError(
                "Hardly a row passes the filter, or is right",
                where=str(folder),
                fix="write a larger pool with --pool, in another folder",
            )
        draws = sets(rows, pools, size)
        console.print(f"pool       {len(rows):,} rows of {teacher} at temperature {TEMPERATURE}")
        console.print(f"filter     {' and '.join(CONDITIONS)}: {len(pools[TAGGED]):,} pass")
        console.print(f"sets       {size:,} rows each")
        show(console, measure(folder, draws, seeds, student, console), student, draws)


def make_pool(teacher: str, folder: Path, count: int) -> list[Row]:
    """The teacher's rows in the order in which they were asked, whole and tagged, whatever the tags say."""
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
            lambda accepted, asked: progress.update(accepted, asked=asked),
        )
    return list(summary.records())


def filtered(pool: Path) -> list[str]:
    """The ids of the rows that the tags call good, like rows left out."""
    from mlx_suite.curation.dataset import read_collection
    from mlx_suite.curation.filter.filter import choose
    from mlx_suite.curation.filter.settings import FilterSettings

    collection = read_collection(pool)
    found = choose(collection, FilterSettings(where=CONDITIONS, keep_first="lexical", threshold=0.9))
    return [collection.rows[number]["id"] for number in found.kept]


def pools_of(rows: Sequence[Row], chosen: Sequence[str]) -> dict[str, list[Row]]:
    """What a set may be drawn from, by the name of the way to choose."""
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
    """Each way to choose `size` rows, as a function of the seed."""
    longest = sorted(rows, key=lambda row: -row["answer_tokens"])

    def drawn_from(pool: Sequence[Row]) -> Callable[[int], list[Row]]:
        return lambda seed: Random(f"worth {seed}").sample(list(pool), size)

    return {
        RAW: lambda seed: list(rows[:size]),
        "longest answers": lambda seed: longest[:size],
        **{name: drawn_from(pool) for name, pool in pools.items()},
    }


def measure(
    folder: Path, draws: Mapping[str, Callable[[int], list[Row]]], seeds: int, student: str, console: Console
) -> dict[str, list[float]]:
    """The share of right answers of every student; results of an earlier start are not measured again."""
    path = folder / "results.jsonl"
    known = {(line["set"], line["seed"]): line["right"] for line in read_journal(path)} if path.exists() else {}
    with Journal(path) as journal:
        if ("nothing", 0) not in known:
            known["nothing", 0] = accuracy(student, None)
            journal.append({"set": "nothing", "seed": 0, "right": known["nothing", 0]})
        for seed in range(seeds):
            for name, draw in draws.items():
                if (name, seed) in known:
                    continue
                run = folder / "students" / f"{name.split(',')[0].replace(' ', '-')}-{seed}"
                right = accuracy(student, finetune_on(student, draw(seed), run, seed))
                journal.append({"set": name, "seed": seed, "right": right})
                known[name, seed] = right
                console.print(f"           {name}, seed {seed}: {right:.1%}")
    found: dict[str, list[float]] = {}
    for (name, seed), right in sorted(known.items(), key=lambda pair: pair[0][1]):
        if seed < seeds:
            found.setdefault(name, []).append(right)
    return found


def finetune_on(student: str, rows: Sequence[Row], run: Path, seed: int) -> Path:
    """Train a LoRA adapter on `rows`; the folder of the run."""
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
    """The share of right greedy answers to unseen instructions."""
    from mlx_suite import load
    from mlx_suite.evaluate import measure_accuracy
    from mlx_suite.hub.resolve import resolve
    from mlx_suite.microworld import heldout_examples, make_world
    from mlx_suite.text import load_chat_template

    world = make_world()
    model, tokenizer = load(student, adapter=adapter)
    template = load_chat_template(resolve(student))
    by_category, _ = measure_accuracy(model, tokenizer, template, heldout_examples(HELDOUT_SEED, ASKED, world), world)
    return by_category.share


def show(
    console: Console,
    results: Mapping[str, Sequence[float]],
    student: str,
    draws: Mapping[str, Callable[[int], list[Row]]],
) -> None:
    """A row for each way to choose: what is right in the data, and what the students learned from it."""
    from mlx_suite.evaluate.microworld import check_dataset

    table = Table("rows", "right in them", "students", "sd", title=f"Right answers of {student}", title_justify="left")
    for name, shares in results.items():
        truth = check_dataset(draws[name](0)) if name in draws else None
        deviation = f"{statistics.stdev(shares):.1%}" if len(shares) > 1 else ""
        table.add_row(name, f"{truth.share:.0%}" if truth else "", f"{statistics.mean(shares):.1%}", deviation)
    console.print(table)
    raw, good = (statistics.mean(results[name]) for name in (RAW, TAGGED))
    console.print(f"the filter is worth {100 * (good - raw):+.1f} points beside raw rows of the same number")


if __name__ == "__main__":
    run_app(app)
