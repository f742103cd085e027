"""Recipes: what is checked before hours of training, and the trials they stand for."""

from pathlib import Path

import pytest

from mlx_suite.runtime.errors import UserError
from mlx_suite_apps.lab.recipe import ARMS, Trial, read_recipe, shipped_recipes, trials_of

SMALL = """
title: Small
arms: [repeat, instruct, instruct-only]
seeds: 2
share: 0.4
world: {people: 4}
model: {config: {model_type: llama}}
training: {tokens: 5000, length: 64, batch: 8}
"""


def recipe_file(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_trials_go_seed_by_seed_so_that_an_unfinished_lab_compares_all_arms(tmp_path: Path) -> None:
    trials = trials_of(read_recipe(recipe_file(tmp_path, SMALL)))
    assert [(t.arm, t.share, t.seed) for t in trials] == [
        ("repeat", 0.0, 0),
        ("instruct", 0.4, 0),
        ("instruct-only", 1.0, 0),
        ("repeat", 0.0, 1),
        ("instruct", 0.4, 1),
        ("instruct-only", 1.0, 1),
    ]


def test_a_sweep_adds_the_shares_that_the_arms_do_not_have(tmp_path: Path) -> None:
    text = SMALL + "sweep: {arm: instruct, shares: [0.1, 0.4], seeds: 1}\n"
    trials = trials_of(read_recipe(recipe_file(tmp_path, text)))
    assert trials[6:] == [Trial(arm="instruct", share=0.1, seed=0)]
    assert trials[6].name == "instruct-0.1-0"


def test_all_mistakes_of_a_recipe_are_reported_together(tmp_path: Path) -> None:
    text = (
        SMALL.replace("instruct-only", "instruckt").replace("share: 0.4", "share: 1.5").replace("seeds: 2", "seeds: 0")
    )
    with pytest.raises(UserError) as error:
        read_recipe(recipe_file(tmp_path, text))
    message = str(error.value)
    assert "did you mean instruct?" in message
    assert "share is 1.5: expected above 0 and below 1" in message
    assert "seeds is 0: expected at least 1" in message


def test_an_unknown_setting_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean seeds"):
        read_recipe(recipe_file(tmp_path, SMALL.replace("seeds: 2", "seed_s: 2")))


def test_arms_that_need_the_microworld_are_refused_for_a_corpus_of_ones_own(tmp_path: Path) -> None:
    text = SMALL.replace("world: {people: 4}", "corpus: texts.jsonl").replace("instruct-only", "mix")
    with pytest.raises(UserError, match="made for the microworld"):
        read_recipe(recipe_file(tmp_path, text))


def test_a_recipe_that_does_not_exist_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UserError, match="knowledge"):
        read_recipe("knowlege")


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_valid_and_has_the_control(name: str) -> None:
    recipe = read_recipe(name)
    assert set(recipe.arms) <= set(ARMS)
    assert {"repeat", "tenth"} & set(recipe.arms)
    assert len(trials_of(recipe)) >= len(recipe.arms)
