"""Recipes of pretraining have valid settings and models that can be made."""

from pathlib import Path

import pytest

import apps.pretrain
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.pretrain.settings import PretrainSettings, check_settings
from mlx_suite.pretrain.size import shape_of_size
from mlx_suite.runtime.footprint import parameter_count
from mlx_suite.runtime.settings_file import read_settings

RECIPES = {path.stem: path for path in sorted((Path(apps.pretrain.__file__).parent / "recipes").glob("*.yaml"))}


def settings(name: str) -> PretrainSettings:
    return PretrainSettings(**read_settings(RECIPES[name], PretrainSettings, ""))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_valid_settings(name: str) -> None:
    check_settings(settings(name))


def test_the_tiny_stories_recipe_has_260_032_parameters() -> None:
    shape = settings("tiny-stories-260k").config
    assert isinstance(shape, dict)
    assert parameter_count(vars(ModelConfig.from_dict(shape | {"vocab_size": 512}))) == 260_032


def test_the_gemma_recipe_alternates_local_and_global_attention() -> None:
    shape = settings("gemma2-shape").config
    assert isinstance(shape, dict)
    assert ModelConfig.from_dict(shape | {"vocab_size": 2048}).windows == (128, None) * 3


def test_the_recipe_from_scratch_has_the_parameters_it_states() -> None:
    size = settings("from-scratch").size
    assert size is not None
    config = ModelConfig.from_dict(shape_of_size(size) | {"vocab_size": 4096})
    assert parameter_count(vars(config)) - 4096 * config.hidden_size == 2_951_424


def test_the_continual_recipe_replays_a_fifth() -> None:
    replay = settings("continual").replay
    assert replay is not None and replay.share == 0.2
