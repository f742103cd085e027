"""Simple self-distillation: Magpie, then finetuning on its rows without a filter, again and again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlx_suite.data.read.sources import ACCEPTED_FILE
from mlx_suite.evaluate.microworld import check_dataset
from mlx_suite.finetune.prepare import prepare
from mlx_suite.finetune.run import finetune
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.hub.resolve import resolve
from mlx_suite.loading import load
from mlx_suite.magpie import MagpieSettings, make_dataset
from mlx_suite.runtime.journal import read_journal
from mlx_suite.text import load_chat_template

from ..experiment import (
    Case,
    Experiment,
    Findings,
    LabOptions,
    ResultChart,
    ResultTable,
    Workplace,
    arms_of,
    compared,
    line_of,
    over_seeds,
)
from ..skills import heldout_accuracy
from ..verdict import Result, Spread

MODEL = "tiny-llama3"
TEMPERATURES = {"greedy": 0.0, "t0.6": 0.6, "t1.0": 1.0}
"""Sampling temperature of the responses that are trained on."""


@dataclass(frozen=True, kw_only=True)
class SelfTraining:
    """Budget of one arm."""

    temperature: float
    """Sampling temperature of responses."""
    top_p: float = 0.95
    rounds: int = 5
    rows: int = 400
    """Rows that the model writes in each round."""
    steps: int = 60
    """Optimizer steps of each round."""
    learning_rate: float = 1e-4
    held_out: int = 300
    """Held-out instructions that accuracy is measured on."""


def cases(options: LabOptions) -> list[Case]:
    arms = {}
    for arm, temperature in TEMPERATURES.items():
        training = SelfTraining(temperature=temperature)
        if options.quick:
            training = replace(training, rounds=2, rows=48, steps=8, held_out=48)
        arms[arm] = vars(training)
    return over_seeds(options, arms)


def run(case: Case, place: Workplace) -> Mapping[str, Any]:
    training = SelfTraining(**case.settings)
    template = load_chat_template(resolve(MODEL))
    folder, accuracies, own = resolve(MODEL), [heldout_accuracy(resolve(MODEL), training.held_out)], []
    for number in range(1, training.rounds + 1):
        rows = place.folder / f"rows-{number}"
        model, tokenizer = load(folder)
        make_dataset(model, tokenizer, template, _magpie(training, case.seed + 100 * number), rows)
        own.append(_right(rows))
        settings = FinetuneSettings(
            model=str(folder),
            data=str(rows),
            out=str(place.folder / f"round-{number}"),
            method="full",
            valid_share=0.0,
            steps=training.steps,
            learning_rate=training.learning_rate,
            max_length=256,
            too_long="drop",
            batch=8,
            seed=case.seed,
        )
        finished = finetune(settings, prepare(settings))
        if finished.result.stopped:
            raise KeyboardInterrupt
        folder = finished.folder / "last"
        accuracies.append(heldout_accuracy(folder, training.held_out))
    return {"accuracy": accuracies, "own_rows": own}


def _magpie(training: SelfTraining, seed: int) -> MagpieSettings:
    """A run that keeps every complete row: no tags, no cleaning, no near-duplicates, no quality."""
    return MagpieSettings(
        count=training.rows,
        seed=seed,
        sanitise=False,
        tags=False,
        embeddings=False,
        near_duplicate=0.0,
        unsafe="keep",
        max_instruction=96,
        max_answer=96,
        answer_temperature=training.temperature,
        answer_top_p=training.top_p if training.temperature else 1.0,
    )


def _right(rows: Path) -> float | None:
    """Right responses as a share of those to tasks of the microworld, among the rows that the model wrote."""
    truth = check_dataset(read_journal(rows / ACCEPTED_FILE))
    return None if truth is None else truth.share_of_recognised


def tell(results: Sequence[Result]) -> Findings:
    arms = arms_of(results)
    first = {arm: Spread.of([each["accuracy"][0] for each in found]) for arm, found in arms.items()}
    last = {arm: Spread.of([each["accuracy"][-1] for each in found]) for arm, found in arms.items()}
    rounds = len(results[0]["accuracy"]) - 1
    verdict = [
        compared("Right responses", f"{arm} after {rounds} rounds", "before", _pair(arm, rounds, first, last))
        for arm in arms
    ]
    rows = tuple(
        (
            arm,
            *(Spread.of([each["accuracy"][at] for each in found]).shown(1, 100) for at in range(rounds + 1)),
            Spread.of([each["own_rows"][-1] or 0.0 for each in found]).shown(1, 100),
        )
        for arm, found in arms.items()
    )
    table = ResultTable(
        title="Right responses to held-out instructions after each round, %",
        columns=("responses", "before", *(f"round {number}" for number in range(1, rounds + 1)), "own rows right"),
        rows=rows,
        note="Mean ± standard deviation over seeds. The last column: responses that the model wrote in the last round, "
        "to instructions that the microworld knows.",
    )
    chart = ResultChart(
        name="rounds",
        title="Right responses after each round",
        lines=tuple(
            line_of(arm, hue, [[(at, 100 * value) for at, value in enumerate(each["accuracy"])] for each in found])
            for hue, (arm, found) in enumerate(arms.items())
        ),
        x_label="rounds",
        y_label="right responses, %",
        from_zero=False,
    )
    return Findings(verdict=tuple(verdict), tables=(table,), charts=(chart,))


def _pair(arm: str, rounds: int, first: Mapping[str, Spread], last: Mapping[str, Spread]) -> dict[str, Spread]:
    return {f"{arm} after {rounds} rounds": last[arm], "before": first[arm]}


EXPERIMENT = Experiment(
    title="Self-distillation: Magpie and finetuning without a filter",
    about="""
    Simple self-distillation (arXiv 2604.01193) trains a model on its own responses, as they were sampled: no checker,
    no teacher, no filter. With Magpie the model writes the instructions too. In each round the shipped tiny-llama3, or
    what the last round made of it, writes rows and is finetuned on them; the microworld's checker then counts the right
    greedy responses to held-out instructions. Arms differ in the temperature of the responses.
    """,
    cases=cases,
    run=run,
    tell=tell,
    not_shown="The paper's setting: large models, given problems, and evaluation by sampling at another temperature, "
    "where it finds most of the gain. A model of this size answers almost as its training data did, so there is "
    "little to sharpen.",
)
