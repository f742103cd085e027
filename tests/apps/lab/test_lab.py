"""A whole lab, small: it runs, resumes, shares its trials between processes, and refuses another recipe."""

import json
from pathlib import Path

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.lock import take_lock
from mlx_suite_apps.cli.main import app
from mlx_suite_apps.lab.lab import prepare, run_lab, work, write_lab
from mlx_suite_apps.lab.recipe import LabRecipe, read_recipe, trials_of

RECIPE = """
title: Small
arms: [repeat, instruct]
rounds: 1
seeds: 1
world: {people: 4, texts: 2, unseen: 2}
model:
  vocabulary: 400
  config:
    model_type: llama
    hidden_size: 16
    intermediate_size: 24
    num_hidden_layers: 1
    num_attention_heads: 2
    num_key_value_heads: 1
    rms_norm_eps: 1e-5
    max_position_embeddings: 512
    tie_word_embeddings: true
training: {tokens: 600, length: 32, batch: 4, learning_rate: 4e-3}
tuning: {steps: [0, 2], batch: 4}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> LabRecipe:
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(RECIPE)
    return read_recipe(path)


@pytest.fixture(scope="module")
def folder(recipe: LabRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished lab."""
    folder = tmp_path_factory.mktemp("lab") / "lab"
    write_lab(run_lab(recipe, folder, tell=lambda line: None), recipe, folder)
    return folder


def test_every_arm_has_a_result_with_scores_before_and_after_tuning(folder: Path) -> None:
    found = json.loads((folder / "results.json").read_text())
    assert [each["arm"] for each in found["trials"]] == ["repeat", "instruct"]
    for trial in found["trials"]:
        assert trial["tokens"] >= 600
        assert [point["step"] for point in trial["curve"]] == [0, 2]
        assert trial["scores"]["other people"]["asked"] == 2 * 7
        assert trial["scores"]["open book"]["asked"] == 2
    assert [part["name"] for part in found["trials"][1]["parts"]] == ["raw", "synthetic"]
    assert "Small" in (folder / "index.html").read_text()


def test_no_held_out_text_is_in_the_texts_of_an_arm(folder: Path) -> None:
    def texts(path: Path) -> set[str]:
        return {json.loads(line)["text"] for line in path.read_text().splitlines()}

    heldout = texts(folder / "material" / "valid.jsonl")
    trained = texts(folder / "material" / "raw.jsonl") | texts(folder / "arms" / "instruct.jsonl")
    assert heldout and not any(text in each for text in heldout for each in trained)


def test_a_finished_lab_runs_again_without_training(folder: Path, recipe: LabRecipe) -> None:
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "trials").rglob("*") if path.is_file()}
    assert len(run_lab(recipe, folder, tell=lambda line: None)) == 2
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_a_trial_that_another_process_trains_is_left_alone(folder: Path, recipe: LabRecipe, tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    (tmp_path / "recipe.json").write_bytes((folder / "recipe.json").read_bytes())
    with (tmp_path / "trials" / f"{trials_of(recipe)[0].name}.lock").open("w") as held:
        take_lock(held.fileno(), tmp_path)
        told: list[str] = []
        with pytest.raises(UserError, match="does not exist"):  # the second trial is begun; there is no material here
            work(tmp_path, told.append)
    assert told == ["instruct, synthetic share 0.5, seed 0"]


def test_another_recipe_is_refused_but_more_seeds_are_not(folder: Path, recipe: LabRecipe, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(RECIPE.replace("people: 4", "people: 5"))
    with pytest.raises(UserError, match="other settings"):
        run_lab(read_recipe(path), folder, tell=lambda line: None)
    path.write_text(RECIPE.replace("seeds: 1", "seeds: 2"))
    assert len(trials_of(read_recipe(path))) == 4
    assert prepare(read_recipe(path), folder / "material-only", lambda line: None).raw.is_file()


def test_the_plan_says_what_would_be_trained(capsys: pytest.CaptureFixture[str]) -> None:
    app(["lab", "quick", "--plan"], standalone_mode=False)
    assert capsys.readouterr().out.splitlines()[:2] == [
        "4 models, 200,000 tokens each, 800,000 in all",
        "vanilla            synthetic share 0     seed 0",
    ]


def test_the_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    app(["lab", "--list"], standalone_mode=False)
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.split()[1] == "recipe"]
    assert names == ["continual", "grow", "knowledge", "mac-8b", "quick"]
