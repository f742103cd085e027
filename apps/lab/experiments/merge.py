"""Merge methods on finetunes with different skills, and on finetunes of one mixture with different seeds."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from mlx_suite.transfer.merge.merging import merge_models
from mlx_suite.transfer.merge.recipe import METHODS, Recipe, whole_models
from mlx_suite.transfer.merge.schedule import constant

from ..experiment import (
    Case,
    Experiment,
    Findings,
    LabOptions,
    ResultTable,
    Workplace,
    arms_of,
    over_seeds,
)
from ..skills import KNOWN, SKILLS, SkillTraining, accuracy_by_skill, learn, write_lessons
from ..verdict import Result, Spread

MODEL = "tiny-gemma2"
POLICIES = 3
"""Finetunes of the mixture with different seeds."""
BASE, ONE, ALL = "base", "expert", "mixture"
Settings = Mapping[str, Any]

_MERGES: Mapping[str, Mapping[str, Any]] = {
    "linear": {},
    "slerp": {"t": 0.5},
    "task": {"lambda": 1.0},
    "ties": {"density": 0.5},
    "dare": {"density": 0.5},
    "dare-ties": {"density": 0.5},
    "model-stock": {},
    "karcher": {},
    "ema": {"mu": 0.5},
    "warp": {"eta": 1.0},
}
"""Parameters of each merge, the same for both soups. Nothing was tuned."""


def arms(options: LabOptions) -> dict[str, Settings]:
    """Every arm with what it is made of."""
    training = SkillTraining(
        model=MODEL, examples=60 if options.quick else 300, steps=6 if options.quick else 100, batch=16
    )
    asked = 12 if options.quick else 100
    shared: Settings = {"training": asdict(training), "asked": asked}
    found: dict[str, Settings] = {BASE: shared}
    found |= {f"{ONE}-{name}": {**shared, "skill": name} for name in SKILLS}
    found |= {ALL: shared, f"{ALL}-average": shared, f"{ALL}-liti": {**shared, "eta": 0.5}}
    chosen = ("linear", "ties", "warp") if options.quick else tuple(_MERGES)
    for soup in ("skills", "seeds"):
        found |= {f"{soup}-{name}": {**shared, "merge": name, **_MERGES[name]} for name in chosen}
    return found


def cases(options: LabOptions) -> list[Case]:
    return over_seeds(options, arms(options))


def run(case: Case, place: Workplace) -> Mapping[str, Any]:
    settings = case.settings
    training = SkillTraining(**settings["training"])
    out = place.folder / "model"
    model = _model(case, training, place.shared, out)
    found = accuracy_by_skill(model, settings["asked"])
    shutil.rmtree(out, ignore_errors=True)
    return {"accuracy": found, "skills": fmean(found[name] for name in SKILLS), "known": found[KNOWN]}


def _model(case: Case, training: SkillTraining, shared: Path, out: Path) -> str | Path:
    """The model of an arm, trained or merged if need be."""
    if case.arm == BASE:
        return training.model
    if case.arm.startswith(f"{ONE}-"):
        return _expert(case.settings["skill"], training, shared, case.seed)
    if case.arm.startswith("skills-"):
        models = [str(_expert(name, training, shared, case.seed)) for name in SKILLS]
    else:
        models = [str(_mixture(number, training, shared, case.seed)) for number in range(POLICIES)]
    if case.arm == ALL:
        return models[0]
    if case.arm == f"{ALL}-average":
        return Path(models[0]).parent / "ema"
    if case.arm == f"{ALL}-liti":
        _merge("liti", {"eta": case.settings["eta"]}, models[:1], training, out, case.seed)
    else:
        name = case.settings["merge"]
        _merge(name, {key: case.settings[key] for key in _MERGES[name]}, models, training, out, case.seed)
    return out


def _expert(name: str, training: SkillTraining, shared: Path, seed: int) -> Path:
    """The model finetuned on one skill."""
    lessons = shared / f"{name}.jsonl"
    write_lessons(lessons, [name], training.examples)
    return learn(training, lessons, shared / f"seed-{seed}" / name, seed)


def _mixture(number: int, training: SkillTraining, shared: Path, seed: int) -> Path:
    """A model finetuned on all skills, with as many steps as an expert."""
    lessons = shared / "mixture.jsonl"
    write_lessons(lessons, list(SKILLS), training.examples)
    return learn(training, lessons, shared / f"seed-{seed}" / f"mixture-{number}", POLICIES * seed + number)


def _merge(
    name: str, parameters: Mapping[str, float], models: Sequence[str], training: SkillTraining, out: Path, seed: int
) -> None:
    method = name.removesuffix("-ties")
    chosen = models[: METHODS[method].most or len(models)]
    recipe = Recipe(
        method=method,
        slices=whole_models(chosen),
        base=training.model if METHODS[method].base else None,
        parameters={key: constant(value) for key, value in parameters.items()},
        election=name == "dare-ties",
        seed=seed,
        dtype="float32",
        tokenizer=chosen[0],
    )
    merge_models(recipe, out)


def tell(results: Sequence[Result]) -> Findings:
    groups = arms_of(results)
    means = {arm: Spread.of([each["skills"] for each in found]) for arm, found in groups.items()}
    known = {arm: Spread.of([each["known"] for each in found]) for arm, found in groups.items()}
    table = ResultTable(
        title="Right responses to held-out instructions, in percent",
        columns=("model", *SKILLS, "mean of the skills", KNOWN),
        rows=tuple(
            (
                arm,
                *(Spread.of([each["accuracy"][name] for each in found]).shown(1, 100) for name in SKILLS),
                means[arm].shown(1, 100),
                known[arm].shown(1, 100),
            )
            for arm, found in groups.items()
        ),
        note=f"{results[0]['settings']['asked']} instructions per column and seed, greedy responses, decided by the "
        "microworld's checker. Mean ± standard deviation over seeds. skills-slerp merges the first two experts only.",
    )
    return Findings(verdict=tuple(_verdict(means, known)), tables=(table,))


def _verdict(means: Mapping[str, Spread], known: Mapping[str, Spread]) -> list[str]:
    experts = {arm: each for arm, each in means.items() if arm.startswith(f"{ONE}-")}
    best = max(experts, key=lambda arm: experts[arm].mean)
    sentences = []
    for soup, reference, what in (("skills", best, "the best expert"), ("seeds", ALL, "one finetune of the mixture")):
        merges = {arm: each for arm, each in means.items() if arm.startswith(f"{soup}-")}
        top = max(merges, key=lambda arm: merges[arm].mean)
        clear = [arm for arm in merges if _clearly_better(merges[arm], means[reference])]
        sentences.append(
            f"Mean of the skills: {top} is the best soup of {soup} with {merges[top].shown(1, 100)}, {what} "
            f"({reference}) has {means[reference].shown(1, 100)}, the base {means[BASE].shown(1, 100)}; clearly better "
            f"than {reference}: {', '.join(clear) or 'none'}."
        )
    kept = [arm for arm in means if arm.startswith("skills-") and not _clearly_better(known[BASE], known[arm])]
    sentences.append(
        f"Soups of skills that are not clearly worse than the base in what it knew before: {', '.join(kept) or 'none'}."
    )
    if min(each.count for each in means.values()) < 3:
        sentences.append("Fewer than three seeds: differences may be chance.")
    return sentences


def _clearly_better(one: Spread, other: Spread) -> bool:
    return one.mean > other.mean and one.clearly_differs(other)


EXPERIMENT = Experiment(
    title="Merging models of different skills and of different seeds",
    about=f"""
    {MODEL} knows a microworld. It is finetuned (all parameters) on facts of another one, in which the same people have
    other jobs and pets, and the same places lie elsewhere: three experts, one for each kind of fact. It is also
    finetuned on the mixture of all facts, {POLICIES} times with different seeds, each with as many steps as an expert.
    Then the experts are merged (a soup of skills), and so are the finetunes of the mixture (a soup of seeds), by every
    method, with the base where a method needs one. mixture-average is the moving average of one finetune's weights,
    mixture-liti lies half of the way between the base and one finetune.

    Each model answers instructions that no training example contains; the facts were there in other words. The column
    "{KNOWN}" has tasks of six categories in which no fact of a world counts, such as editing and arithmetic: what
    finetuning and merging cost. The seed of a row is that of the order of the examples and of DARE's drops.
    """,
    cases=cases,
    run=run,
    tell=tell,
    not_shown="What tuned weights, densities and factors reach: every method has one setting, chosen in advance; the "
    "skills and the learning rate were chosen after three pilot finetunes. Nor whether large models, whose finetunes "
    "lie closer together, rank the methods in this order.",
)
