"""What models of a lab know: accuracy in their own world, and skills, facts of another that they are finetuned on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from mlx_suite import load
from mlx_suite.evaluate import measure_accuracy
from mlx_suite.finetune.prepare import prepare
from mlx_suite.finetune.run import finetune
from mlx_suite.finetune.settings import FinetuneSettings
from mlx_suite.hub.resolve import resolve
from mlx_suite.microworld import (
    TASKS,
    World,
    WorldExample,
    heldout_examples,
    is_heldout,
    make_world,
    sample_example,
)
from mlx_suite.runtime.files import write_atomically
from mlx_suite.text import load_chat_template

OTHER_WORLD = 1
"""Seed of the world whose facts are learned: the names are those that the model knows, nearly all facts differ."""
SKILLS: Mapping[str, tuple[str, ...]] = {
    "jobs": ("person_job",),
    "pets": ("person_pet",),
    "places": ("place_country", "place_river"),
}
"""Tasks of each skill. There are 60 people and 20 places."""
KNOWN = "known before"
"""Name of what the model could do before, in which no fact of a world counts."""
_WORLD_FREE = ("Editing", "Coding & Debugging", "Math", "Reasoning", "Creative writing", "Advice seeking")
"""Categories of `KNOWN`."""


@dataclass(frozen=True, kw_only=True)
class SkillTraining:
    """How skills are learned: full finetuning."""

    model: str
    examples: int
    """Distinct training examples of each skill."""
    steps: int
    batch: int = 16
    """Examples per step."""
    learning_rate: float = 5e-4
    """Twice as much teaches a kind of fact in 100 steps too, but costs most of what the model knew before."""
    ema: float = 0.05


def write_lessons(path: Path, skills: Sequence[str], count: int) -> None:
    """Write `count` examples of each skill, none of them held out, unless the file is there."""
    if path.exists():
        return
    rows = [
        {"instruction": each.instruction, "output": each.answer}
        for skill in skills
        for each in _examples(SKILLS[skill], count, make_world(OTHER_WORLD), f"lessons {skill}", heldout=False)
    ]
    Random("order").shuffle(rows)
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def learn(training: SkillTraining, lessons: Path, run: Path, seed: int) -> Path:
    """Finetune the model on the lessons in folder `run`, or resume; returns the folder of the last weights.

    Raises KeyboardInterrupt if it was stopped.
    """
    settings = FinetuneSettings(
        model=training.model,
        data=str(lessons),
        out=str(run),
        method="full",
        batching="bucket",
        batch=training.batch,
        steps=training.steps,
        learning_rate=training.learning_rate,
        ema=training.ema,
        seed=seed,
        valid_share=0.0,
        eval_every=training.steps,
        save_every=training.steps,
    )
    if not (run / "last").is_dir() and finetune(settings, prepare(settings)).result.stopped:
        raise KeyboardInterrupt
    return run / "last"


def heldout_accuracy(model: str | Path, count: int) -> float:
    """Share of right greedy responses to `count` held-out instructions of the world that the shipped models know."""
    loaded, tokenizer = load(model)
    world = make_world()
    examples = heldout_examples(0, count, world)
    by_category, _ = measure_accuracy(loaded, tokenizer, load_chat_template(resolve(model)), examples, world)
    return by_category.share


def accuracy_by_skill(model: str | Path, count: int) -> Mapping[str, float]:
    """Share of right greedy responses to `count` held-out instructions of each skill, and of `KNOWN`.

    The facts of a skill were in the lessons, in other words.
    """
    known = [task.name for task in TASKS if task.category in _WORLD_FREE]
    loaded, tokenizer = load(model)
    template = load_chat_template(resolve(model))
    world, found = make_world(OTHER_WORLD), {}
    for name, tasks in {**SKILLS, KNOWN: known}.items():
        examples = _examples(tasks, count, world, f"heldout {name}", heldout=True)
        by_category, _ = measure_accuracy(loaded, tokenizer, template, examples, world)
        found[name] = by_category.share
    return found


def _examples(tasks: Sequence[str], count: int, world: World, key: str, *, heldout: bool) -> list[WorldExample]:
    """Examples of some tasks with distinct instructions, all of them held out or none."""
    rng, pool, found = Random(key), [task for task in TASKS if task.name in tasks], dict[str, WorldExample]()
    while len(found) < count:
        example = sample_example(rng, world, pool)
        if is_heldout(example.instruction) == heldout:
            found.setdefault(example.instruction, example)
    return list(found.values())
