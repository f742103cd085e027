"""A lab in one folder: material, tokenizer and trials, resumable at any moment.

recipe.json    the recipe, complete            material/, arms/   texts
tokenizer/     of the new models               base/              base model of a continual lab
trials/        one pretraining run each, with result.json
results.json   everything measured             index.html         the page
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from mlx_suite.microworld.passages import person_passage
from mlx_suite.microworld.population import make_population
from mlx_suite.pretrain.run import pretrain
from mlx_suite.pretrain.settings import CorpusPart, PretrainSettings, TokenizerSource
from mlx_suite.runtime.container import PROCESSES
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically
from mlx_suite.runtime.lock import take_lock
from mlx_suite.runtime.resume import as_json
from mlx_suite.runtime.stage import open_stage
from mlx_suite.text.training import train_base_tokenizer

from .arms import arm_data
from .material import Material, make_material, texts_of, write_texts
from .page import render_page, table_text
from .recipe import LabRecipe, Trial, read_recipe, trials_of
from .scores import majority_baseline
from .trial import base_folder, result_of, run_trial, shared_settings
from .verdict import verdict

KIND = "mlx-suite lab"
RECIPE_FILE, RESULTS_FILE = "recipe.json", "results.json"
Tell = Callable[[str], None]


def run_lab(recipe: LabRecipe, folder: Path, *, jobs: int = 1, tell: Tell = print) -> list[Mapping[str, Any]]:
    """Run all trials of a recipe in `folder`, or go on; returns their results.

    Args:
        jobs: Processes that train at the same time and share the cores. Models this small leave cores idle.

    Raises UserError for a folder that another recipe began, and for whatever stops a trial.
    """
    facts = as_json(asdict(recipe))
    with open_stage(folder, KIND, {"recipe": {name: v for name, v in facts.items() if name not in _MAY_GROW}}):
        write_atomically(folder / RECIPE_FILE, json.dumps(facts, indent=1) + "\n")
        material = prepare(recipe, folder, tell)
        trials = trials_of(recipe)
        for trial in trials:
            arm_data(trial, material, folder / "arms")
        if jobs > 1 and len(_open(trials, folder)) > 1:
            _run_workers(folder, jobs)
        done = len(trials) - len(_open(trials, folder))
        for trial in _open(trials, folder):
            done += 1
            tell(f"trial {done} of {len(trials)}: {trial.arm}, synthetic share {trial.share:g}, seed {trial.seed}")
            run_trial(trial, material, folder)
    return [result for trial in trials if (result := result_of(trial, folder)) is not None]


_MAY_GROW = ("seeds", "sweep", "title")
"""Settings of a recipe that may change later: more seeds add trials to those that are there."""


def prepare(recipe: LabRecipe, folder: Path, tell: Tell) -> Material:
    """Everything that the trials share."""
    material = make_material(recipe, folder / "material", tell)
    if recipe.model.checkpoint is None and not (folder / "tokenizer" / "tokenizer.json").exists():
        tell("training the tokenizer")
        _train_tokenizer(recipe, material, folder)
    if recipe.base is not None and not base_folder_exists(recipe, folder):
        tell("training the base model")
        _train_base(recipe, folder)
    return material


def base_folder_exists(recipe: LabRecipe, folder: Path) -> bool:
    base = base_folder(recipe, folder)
    return base is not None and (base / "config.json").exists()


def work(folder: Path, tell: Tell = print) -> None:
    """Train the open trials of a prepared lab that no other process works on."""
    recipe = read_recipe(folder / RECIPE_FILE)
    material = Material(recipe=recipe, folder=folder / "material")
    for trial in _open(trials_of(recipe), folder):
        with _claim(folder / "trials" / f"{trial.name}.lock") as claimed:
            if claimed and result_of(trial, folder) is None:
                tell(f"{trial.arm}, synthetic share {trial.share:g}, seed {trial.seed}")
                run_trial(trial, material, folder)


@contextmanager
def _claim(path: Path) -> Iterator[bool]:
    """Whether this process got the lock at `path`, which it holds until the block ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            take_lock(handle, path)
        except UserError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _open(trials: list[Trial], folder: Path) -> list[Trial]:
    return [trial for trial in trials if result_of(trial, folder) is None]


def _run_workers(folder: Path, jobs: int) -> None:
    """Run `jobs` processes that share the trials; their output passes through."""
    (folder / "trials").mkdir(exist_ok=True)
    environment = os.environ | {PROCESSES: str(jobs)}
    command = [sys.executable, "-m", "mlx_suite_apps.lab.worker", str(folder)]
    workers = [subprocess.Popen(command, env=environment) for _ in range(jobs)]
    try:
        codes = [worker.wait() for worker in workers]
    except BaseException:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()
        raise
    if any(codes):
        raise UserError(
            "A process of the lab stopped with an error, which it printed above",
            where=str(folder),
            fix="repeat the command: finished trials are kept",
        )


def _train_tokenizer(recipe: LabRecipe, material: Material, folder: Path) -> None:
    """One tokenizer for all arms, trained on the texts of all of them."""
    texts = [
        text
        for arm in dict.fromkeys(trial.arm for trial in trials_of(recipe))
        for path in _paths(Trial(arm=arm, share=0.5, seed=0), material, folder)
        for text in texts_of(path)
    ]
    if recipe.base is not None:
        texts += list(_base_texts(recipe))
    size = recipe.model.vocabulary
    try:
        train_base_tokenizer(texts, folder / "tokenizer", size)
    except ValueError as error:
        raise UserError(str(error), where="model.vocabulary", fix="set a smaller vocabulary in the recipe") from error


def _paths(trial: Trial, material: Material, folder: Path) -> list[Path]:
    data = arm_data(trial, material, folder / "arms")
    return [path for path in (data.raw, data.synthetic) if path is not None]


def _base_texts(recipe: LabRecipe) -> list[str]:
    """Biographies of people of the synthesizer's world, many of each."""
    assert recipe.base is not None
    rng = Random(f"lab base {recipe.seed}")
    people = make_population(recipe.base.people, seed=recipe.seed + 2).people
    return [person_passage(person, rng).text for _ in range(20) for person in people]


def _train_base(recipe: LabRecipe, folder: Path) -> None:
    assert recipe.base is not None
    texts = folder / "base" / "texts.jsonl"
    write_texts(texts, _base_texts(recipe))
    finished = pretrain(
        PretrainSettings(
            size=recipe.model.size,
            config=recipe.model.config,
            tokenizer=TokenizerSource(checkpoint=str(folder / "tokenizer")),
            data=(CorpusPart(path=str(texts), name="base"),),
            tokens=recipe.base.tokens,
            seed=recipe.seed,
            out=str(folder / "base" / "run"),
            **shared_settings(recipe.training),
        )
    )
    if finished.result.stopped:
        raise KeyboardInterrupt


@dataclass(frozen=True, kw_only=True)
class LabReport:
    """What a lab prints."""

    table: str
    verdict: list[str]


def write_lab(results: Sequence[Mapping[str, Any]], recipe: LabRecipe, folder: Path) -> LabReport:
    """Write results.json, table.md and index.html."""
    baseline: dict[str, float] = {}
    if recipe.asks:
        baseline = majority_baseline(Material(recipe=recipe, folder=folder / "material").questions)
    facts = {"recipe": as_json(asdict(recipe)), "baseline": baseline, "trials": list(results)}
    report = LabReport(table=table_text(results, recipe, baseline), verdict=verdict(results, recipe, baseline))
    write_atomically(folder / RESULTS_FILE, json.dumps(facts, indent=1) + "\n")
    write_atomically(folder / "table.md", report.table)
    write_atomically(folder / "index.html", render_page(results, recipe, baseline))
    return report
