"""Skills of a lab: categories of the microworld that a model is finetuned on, and its accuracy in each."""

import json
from collections import defaultdict
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
from mlx_suite.microworld import TASKS, WorldExample, heldout_examples, is_heldout, make_world, sample_example
from mlx_suite.runtime.files import write_atomically
from mlx_suite.text import load_chat_template

HELDOUT_SEED = 23
OTHERS = "others"
"""Name of all categories that are no skill."""


@dataclass(frozen=True, kw_only=True)
class SkillTraining:
    """How a skill is learned: full finetuning on examples of its categories."""

    model: str
    examples: int
    """Distinct training examples of each skill."""
    steps: int
    batch: int = 16
    """Examples per step."""
    learning_rate: float = 5e-4
    ema: float = 0.05


def write_lessons(path: Path, skills: Sequence[str], count: int) -> None:
    """Write `count` examples of each skill (a category), none of them held out, unless the file is there."""
    if path.exists():
        return
    world, lines = make_world(), []
    for skill in skills:
        rng, found = Random(f"lessons {skill}"), dict[str, WorldExample]()
        tasks = [task for task in TASKS if task.category == skill]
        while len(found) < count:
            example = sample_example(rng, world, tasks)
            if not is_heldout(example.instruction):
                found.setdefault(example.instruction, example)
        lines += [json.dumps({"instruction": each.instruction, "output": each.answer}) for each in found.values()]
    Random("order").shuffle(lines)
    write_atomically(path, "\n".join(lines) + "\n")


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


def accuracy_by_skill(model: str | Path, skills: Sequence[str], count: int) -> Mapping[str, float]:
    """Share of right greedy responses to `count` held-out instructions of each skill, and of all other categories."""
    groups: dict[str, list[WorldExample]] = defaultdict(list)
    for example in heldout_examples(HELDOUT_SEED, 30 * count):
        group = example.category if example.category in skills else OTHERS
        if len(groups[group]) < count:
            groups[group].append(example)
    world = make_world()
    loaded, tokenizer = load(model)
    template = load_chat_template(resolve(model))
    found = {}
    for group in (*skills, OTHERS):
        by_category, _ = measure_accuracy(loaded, tokenizer, template, groups[group], world)
        found[group] = by_category.share
    return found
