"""The same recipes through mergekit give the same weights. `mergekit-yaml` must be on the PATH."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from mlx_suite.transfer.merge.mergekit_recipe import read_recipe
from mlx_suite.transfer.merge.merging import merge_models
from tests.transfer.merge.models import differences

pytestmark = pytest.mark.exports

MERGEKIT = """
import json, sys
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
for recipe, out in json.load(sys.stdin):
    run_merge(MergeConfiguration.model_validate(recipe), out, MergeOptions(copy_tokenizer=False))
"""

GRADIENT = [{"filter": "self_attn", "value": [0.0, 0.4, 1.0]}, {"filter": "mlp", "value": 0.3}, {"value": 0.5}]
RECIPES = {
    "linear": {"merge_method": "linear", "models": ["a", "b"], "weights": [0.7, 0.1]},
    "linear, not normalized": {
        "merge_method": "linear",
        "models": ["a", "b"],
        "weights": [0.7, 0.1],
        "parameters": {"normalize": False},
    },
    "slerp": {"merge_method": "slerp", "base_model": "a", "models": ["a", "b"], "parameters": {"t": GRADIENT}},
    "task": {
        "merge_method": "task_arithmetic",
        "base_model": "base",
        "models": ["a", "b"],
        "weights": [0.6, [0.2, 0.8]],
        "parameters": {"lambda": 0.7},
    },
    "ties": {
        "merge_method": "ties",
        "base_model": "base",
        "models": ["a", "b", "c"],
        "weights": [1.0, 0.5, 0.8],
        "parameters": {"density": 0.3, "normalize": True},
    },
    "ties, not normalized": {
        "merge_method": "ties",
        "base_model": "base",
        "models": ["a", "b", "c"],
        "weights": [1.0, 0.5, 0.8],
        "parameters": {"density": 0.6, "normalize": False, "lambda": 0.5},
    },
    "dare, nothing dropped": {
        "merge_method": "dare_ties",
        "base_model": "base",
        "models": ["a", "b"],
        "weights": [0.5, 0.5],
    },
    "model stock": {"merge_method": "model_stock", "base_model": "base", "models": ["a", "b", "c"]},
    "karcher": {"merge_method": "karcher", "models": ["a", "b", "c"], "parameters": {"max_iter": 100, "tol": 1e-9}},
}


def recipe_of(name: str, folders: dict[str, str]) -> dict[str, object]:
    """A recipe as mergekit reads it, with folders for names."""
    recipe = dict(RECIPES[name])
    weights = recipe.pop("weights", None)
    models: list[dict[str, object]] = [{"model": folders[str(each)]} for each in recipe["models"]]  # type: ignore[attr-defined]
    for model, weight in zip(models, weights or [], strict=False):  # type: ignore[call-overload]
        model["parameters"] = {"weight": weight}
    recipe["models"] = models
    if "base_model" in recipe:
        recipe["base_model"] = folders[str(recipe["base_model"])]
    return recipe | {"dtype": "float32"}


@pytest.fixture(scope="module")
def folders(llamas: list[str]) -> dict[str, str]:
    return dict(zip(("base", "a", "b", "c"), llamas, strict=True))


@pytest.fixture(scope="module")
def theirs(folders: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mergekit's result of every recipe, each in a folder with its name."""
    program = shutil.which("mergekit-yaml")
    if program is None:
        pytest.skip("mergekit is not installed")
    python = Path(program).read_text().splitlines()[0].removeprefix("#!").strip()
    out = tmp_path_factory.mktemp("mergekit")
    jobs = [(recipe_of(name, folders), str(out / name)) for name in RECIPES]
    subprocess.run([python, "-c", MERGEKIT], input=json.dumps(jobs), text=True, check=True, timeout=1800)
    return out


@pytest.mark.parametrize("name", RECIPES)
def test_the_weights_are_those_of_mergekit(name: str, folders: dict[str, str], theirs: Path, tmp_path: Path) -> None:
    recipe = recipe_of(name, folders)
    if name == "karcher":
        recipe.pop("parameters")  # ours always converges
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    merge_models(read_recipe(tmp_path / "recipe.yaml"), tmp_path / "ours")
    found = differences(tmp_path / "ours", theirs / name)
    assert {tensor: value for tensor, value in found.items() if value > 2e-6} == {}
