"""Recipes have valid settings and the memory they state; the script trains and responds."""

import json
import re
from pathlib import Path

import pytest

from apps.finetune import finetune_script
from mlx_suite.checkpoints import config_file
from mlx_suite.finetune.settings import FinetuneSettings, check_settings
from mlx_suite.hub.resolve import resolve
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.runtime.settings_file import read_settings
from mlx_suite.training.step_memory import TrainShape, estimate_memory
from tests.modeling.tiny import PUBLISHED

RECIPES = sorted((Path(finetune_script.__file__).parent / "recipes").glob("*.yaml"))
DIMENSIONS = {
    "meta-llama/Llama-3.2-1B": "Llama 3.2 1B",
    "meta-llama/Llama-3.2-1B-Instruct": "Llama 3.2 1B",
    "mlx-community/Meta-Llama-3-8B-Instruct-4bit": "Llama 3.1 8B",
    "google/gemma-2-2b-it": "Gemma 2 2B",
    "mlx-community/gemma-2-9b-it-4bit": "Gemma 2 9B",
    "mistralai/Mistral-7B-v0.1": "Mistral 7B v0.1",
}


def dimensions(model: str) -> ModelConfig:
    if model in DIMENSIONS:
        return ModelConfig.from_dict(PUBLISHED[DIMENSIONS[model]])
    return ModelConfig.from_dict(config_file.read_config(resolve(model)))


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 7


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_has_valid_settings(recipe: Path) -> None:
    check_settings(FinetuneSettings(**read_settings(recipe, FinetuneSettings, "")))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_states_its_estimated_memory(recipe: Path) -> None:
    settings = FinetuneSettings(**read_settings(recipe, FinetuneSettings, ""))
    text = recipe.read_text()
    found = re.search(r"estimated for rows of ([\d,]+) tokens on a (GPU|CPU): ([\d.]+) GB", text)
    assert found is not None
    length, place, size = found.groups()
    packed = 4 if settings.model.endswith("4bit") else 0
    shape = TrainShape(
        method=settings.method,
        rank=settings.rank,
        modules=settings.modules,
        quantize_base=packed or settings.quantize_base,
        optimizer=settings.optimizer,
        rows=settings.batch,
        row_length=int(length.replace(",", "")),
        checkpointing=settings.recompute,
        element_bytes=4 if place == "CPU" else 2,
        accumulate=settings.accumulate,
    )
    memory = estimate_memory(dimensions(settings.model), shape, limit=10**12)
    assert f"{memory.total / 1e9:.1f}" == size


def test_the_script_trains_and_responds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    pairs = [{"instruction": f"What is {n} plus 1?", "output": f"The sum of {n} and 1 is {n + 1}."} for n in range(30)]
    rows.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    run = tmp_path / "run"
    answer = finetune_script.main([str(rows), str(run), "--steps", "2", "--question", "What is 12 plus 1?"])
    out = capsys.readouterr().out
    assert "28 examples" in out and "2 steps; validation loss" in out
    assert out.endswith(f"What is 12 plus 1?\n{answer}\n") and answer
    assert {"best", "last", "config.yaml", "metrics.jsonl", "samples.md"} <= {path.name for path in run.iterdir()}
