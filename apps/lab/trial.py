"""One trial of a lab: an arm with one seed is pretrained, scored, finetuned and scored again."""

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_suite.data.corpus.mixture import LedgerEntry
from mlx_suite.loading import load
from mlx_suite.pretrain.run import pretrain
from mlx_suite.pretrain.settings import CorpusPart, PretrainSettings, Replay, TokenizerSource
from mlx_suite.runtime.files import write_atomically

from .arms import arm_data
from .material import Material
from .recipe import LabRecipe, LabTraining, Trial
from .scores import Score, score
from .tuning import tune_and_score

RESULT = "result.json"


def run_trial(trial: Trial, material: Material, lab: Path) -> Mapping[str, Any]:
    """Train and score, or resume; a finished trial is read from its folder."""
    folder = lab / "trials" / trial.name
    if (found := result_of(trial, lab)) is not None:
        return found
    recipe = material.recipe
    began = time.perf_counter()
    finished = pretrain(trial_settings(trial, material, lab))
    if finished.result.stopped:
        raise KeyboardInterrupt
    seconds = time.perf_counter() - began
    result: dict[str, Any] = {
        "arm": trial.arm,
        "share": trial.share,
        "seed": trial.seed,
        "tokens": finished.prepared.plan.steps * finished.prepared.step_tokens,
        "seconds": round(seconds, 1),
        "bits_per_byte": finished.evaluations[-1]["bits_per_byte"],
        "parts": [_part(entry) for entry in finished.ledger],
    }
    if recipe.asks:
        result |= _scores(trial, material, folder)
    write_atomically(folder / RESULT, json.dumps(result, indent=1) + "\n")
    # What is needed of the run from here on is its log and its last weights.
    for name in ("checkpoint", "best", "tokens", "tuning"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return result


def result_of(trial: Trial, lab: Path) -> Mapping[str, Any] | None:
    """The result of a finished trial."""
    path = lab / "trials" / trial.name / RESULT
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def trial_settings(trial: Trial, material: Material, lab: Path) -> PretrainSettings:
    """The pretraining job of a trial."""
    recipe, training = material.recipe, material.recipe.training
    base = base_folder(recipe, lab)
    new = base is None and recipe.model.checkpoint is None
    return PretrainSettings(
        size=recipe.model.size if new else None,
        config=recipe.model.config if new else None,
        checkpoint=str(base) if base is not None else recipe.model.checkpoint,
        tokenizer=TokenizerSource(checkpoint=str(lab / "tokenizer")) if new else None,
        data=arm_data(trial, material, lab / "arms").parts(trial.share),
        replay=None
        if recipe.base is None
        else Replay(path=str(lab / "base" / "texts.jsonl"), share=recipe.base.replay),
        valid=None if material.valid is None else CorpusPart(path=str(material.valid), name="valid"),
        tokens=training.tokens,
        isolate=training.isolate,
        seed=trial.seed,
        sample_tokens=24,
        out=str(lab / "trials" / trial.name),
        **shared_settings(training),
    )


def shared_settings(training: LabTraining) -> dict[str, Any]:
    """Settings of the pretraining job that trials and their base model have in common."""
    return {
        "length": training.length,
        "batch": training.batch,
        "accumulate": 1,
        "optimizer": training.optimizer,
        "learning_rate": training.learning_rate,
        "schedule": training.schedule,
    }


def base_folder(recipe: LabRecipe, lab: Path) -> Path | None:
    """The base model of a continual lab."""
    return None if recipe.base is None else lab / "base" / "run" / "last"


def _scores(trial: Trial, material: Material, folder: Path) -> dict[str, Any]:
    model, tokenizer = load(folder / "last")
    questions = material.questions
    tuning = material.recipe.tuning
    if tuning is None:
        return {"scores": _as_dict(score(model, tokenizer, questions))}
    curve = tune_and_score(model, tokenizer, material.tuning, questions, tuning, folder / "tuning", seed=trial.seed)
    return {
        "scores": _as_dict(curve[0][1]),
        "tuned": _as_dict(curve[-1][1]),
        "curve": [{"step": step, "scores": _as_dict(scores)} for step, scores in curve],
    }


def _as_dict(scores: Mapping[str, Score]) -> dict[str, dict[str, int]]:
    return {group: each.as_dict() for group, each in scores.items()}


def _part(entry: LedgerEntry) -> dict[str, Any]:
    return {"name": entry.name, "tokens": entry.tokens, "passes": round(entry.passes, 2)}
