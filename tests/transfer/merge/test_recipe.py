"""Recipes: what each method takes, and mergekit's YAML."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mlx_suite.checkpoints.load import load_model
from mlx_suite.runtime.errors import UserError
from mlx_suite.transfer.merge.card import recipe_text
from mlx_suite.transfer.merge.mergekit_recipe import read_recipe
from mlx_suite.transfer.merge.merging import merge_models
from mlx_suite.transfer.merge.recipe import METHODS, Recipe, Slice, Source, check_recipe, whole_models
from mlx_suite.transfer.merge.schedule import Place, constant, from_yaml
from tests.export.checkpoints import random_checkpoint
from tests.transfer.merge.models import weights_of


def problems_of(**recipe: Any) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        check_recipe(Recipe(**{"slices": whole_models(["a", "b"]), **recipe}))
    return caught.value.details


def written(folder: Path, recipe: dict[str, Any]) -> Path:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "recipe.yaml"


def refusal(folder: Path, recipe: dict[str, Any]) -> UserError:
    with pytest.raises(UserError) as caught:
        read_recipe(written(folder, recipe))
    return caught.value


def test_every_problem_of_a_recipe_is_listed() -> None:
    found = problems_of(
        method="ties",
        slices=whole_models([]),
        parameters={"density": constant(0.0), "t": constant(0.5)},
        dtype="int8",
        election=True,
        seed=-1,
    )
    assert found == (
        "ties takes at least 1 model, and 0 are given",
        "ties needs a base model: --base",
        "density is 0: expected above 0 and at most 1",
        "ties has no t; it has weight, density, lambda",
        "dtype is 'int8': expected one of float32, bfloat16, float16",
        "only dare can elect signs; ties always does",
        "seed is -1: expected a whole number of at least 0",
    )


def test_the_number_of_models_is_checked() -> None:
    assert problems_of(method="slerp", slices=whole_models(["a", "b", "c"])) == (
        "slerp takes 2 models, and 3 are given",
    )
    assert problems_of(method="liti", base="a") == ("liti takes 1 model, and 2 are given",)
    assert problems_of(method="linear", slices=whole_models(["a"])) == (
        "linear takes at least 2 models, and 1 is given",
    )


def test_settings_without_effect_are_refused() -> None:
    assert problems_of(method="slerp", normalize=True) == ("normalize has no effect on slerp, which has no weights",)
    assert problems_of(method="karcher", normalize=False) == ("karcher always divides by the sum of the weights",)
    three = whole_models(["a", "b", "c"])
    assert problems_of(method="warp", slices=three, base="d", parameters={"t": constant(0.3)}) == (
        "t is for two models; of 3, each has an equal part",
    )


def test_ema_needs_its_rate() -> None:
    assert problems_of(method="ema") == ("ema needs mu: --mu",)


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="'modelstock'") as caught:
        check_recipe(Recipe(method="modelstock", slices=()))
    assert caught.value.fix == "did you mean model-stock?"


def test_mergekits_ties_example_is_read(tmp_path: Path) -> None:
    recipe = read_recipe(
        written(
            tmp_path,
            {
                "merge_method": "ties",
                "base_model": "base",
                "models": [
                    {"model": "base"},
                    {"model": "a", "parameters": {"density": 0.5, "weight": 0.5}},
                    {"model": "b", "parameters": {"density": [1, 0.7, 0.1], "weight": [0, 0.3, 0.7, 1]}},
                ],
                "parameters": {"normalize": True, "int8_mask": True, "lambda": 0.9},
                "dtype": "float16",
                "tokenizer_source": "base",
            },
        )
    )
    assert recipe.models == ("a", "b") and recipe.base == recipe.tokenizer == "base"
    assert recipe.slices[0].sources[1].parameters["density"] == from_yaml([1, 0.7, 0.1])
    assert (recipe.parameters, recipe.normalize, recipe.dtype) == ({"lambda": constant(0.9)}, True, "float16")


def test_slerp_begins_with_its_base(tmp_path: Path) -> None:
    slices = [{"sources": [{"model": name, "layer_range": [0, 3]} for name in ("a", "b")]}]
    values = {"merge_method": "slerp", "base_model": "b", "slices": slices, "parameters": {"t": 0.3}}
    recipe = read_recipe(written(tmp_path, values))
    assert recipe.slices == (Slice(sources=(Source(model="b", layers=(0, 3)), Source(model="a", layers=(0, 3)))),)
    assert recipe.base is None


def test_mergekits_defaults_are_kept(tmp_path: Path) -> None:
    values = {"merge_method": "dare_ties", "base_model": "base", "models": [{"model": "a"}]}
    recipe = read_recipe(written(tmp_path, values))
    assert (recipe.election, recipe.normalizes, recipe.parameters) == (True, False, {"density": constant(1.0)})


def test_what_is_not_supported_is_refused_by_name_all_at_once(tmp_path: Path) -> None:
    error = refusal(
        tmp_path,
        {
            "merge_method": "linear",
            "models": [{"model": "a", "parameter": {"weight": 1}}, {"parameters": {"weight": "x", "epsilon": 1}}],
            "parameters": {"normalise": True, "rescale": False},
            "tokenizer_source": "union",
            "chat_template": "auto",
        },
    )
    assert error.details == (
        "chat_template is not supported: use one of merge_method, base_model, models, slices, parameters, dtype, "
        "out_dtype, tokenizer_source",
        "parameters.normalise is not supported: did you mean normalize?",
        "parameters.rescale is False: not supported",
        "models 1: parameter is not supported: did you mean parameters?",
        "models 2: model is None: expected a name",
        "models 2: parameters.epsilon is not supported: use one of weight, density, lambda, t, eta, mu, int8_mask, "
        "rescale, filter_wise",
        "models 2: parameters.weight is 'x': expected a number or a list of numbers",
        "tokenizer_source union is not supported: use base or model:NAME",
    )


@pytest.mark.parametrize("name", ["della", "breadcrumbs", "nuslerp", None])
def test_other_methods_are_refused_by_name(name: str | None, tmp_path: Path) -> None:
    [detail] = refusal(tmp_path, {"merge_method": name, "models": [{"model": "a"}]}).details
    assert detail.startswith(f"merge_method {name} is not supported: ")


@pytest.mark.parametrize("text", ["[1, 2]", "merge_method: [", "", "\x00"])
def test_files_that_are_no_recipes_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(UserError):
        read_recipe(tmp_path / "recipe.yaml")


def test_the_recipe_on_the_card_repeats_the_merge(llamas: list[str], tmp_path: Path) -> None:
    weights = [{"weight": constant(0.7)}, {"weight": from_yaml([{"filter": "mlp", "value": [0, 1]}, {"value": 0.2}])}]
    recipe = Recipe(
        method="dare",
        slices=whole_models(llamas[1:3], weights),
        base=llamas[0],
        parameters={"lambda": constant(0.8)},
        election=True,
        seed=3,
    )
    first = merge_models(recipe, tmp_path / "first")
    (tmp_path / "recipe.yaml").write_text(recipe_text(recipe))
    again = merge_models(read_recipe(tmp_path / "recipe.yaml"), tmp_path / "again")
    assert again.facts.result == first.facts.result


@pytest.mark.parametrize("name", [name for name in METHODS if name != "passthrough"])
def test_the_recipe_on_a_card_can_be_read_for_every_method(name: str, tmp_path: Path) -> None:
    method = METHODS[name]
    recipe = Recipe(
        method=name,
        slices=whole_models(["a", "b", "c"][: method.most]),
        base="z" if method.base else None,
        parameters={"mu": constant(0.5)} if name == "ema" else {},
        dtype="bfloat16",
        tokenizer="a",
    )
    (tmp_path / "recipe.yaml").write_text(recipe_text(recipe))
    found = read_recipe(tmp_path / "recipe.yaml")
    assert (found.method, found.models, found.dtype, found.tokenizer) == (name, recipe.models, "bfloat16", "a")
    place = Place("model.norm.weight", 0.0)
    for parameter in method.parameters:
        values = [each.value(parameter, each.slices[0], None, place) for each in (recipe, found)]
        assert values[0] == values[1]


def test_layers_are_stacked_by_slices(llamas: list[str], tmp_path: Path) -> None:
    one, two = llamas[1:3]
    slices = [
        {"sources": [{"model": one, "layer_range": [0, 2]}]},
        {"sources": [{"model": two, "layer_range": [1, 3]}]},
    ]
    merge_models(read_recipe(written(tmp_path, {"merge_method": "passthrough", "slices": slices})), tmp_path / "out")
    found, first, second = (weights_of(each) for each in (tmp_path / "out", one, two))
    name = "model.layers.{}.mlp.up_proj.weight"
    for place, (source, layer) in enumerate([(first, 0), (first, 1), (second, 1), (second, 2)]):
        assert (found[name.format(place)] == source[name.format(layer)]).all()
    assert (found["model.embed_tokens.weight"] == first["model.embed_tokens.weight"]).all()
    assert (found["lm_head.weight"] == second["lm_head.weight"]).all()
    assert len(load_model(tmp_path / "out").layers) == 4


def test_stacked_layers_of_gemma_2_keep_their_windows(tmp_path: Path) -> None:
    random_checkpoint(tmp_path / "gemma", "gemma2")
    source = {"model": str(tmp_path / "gemma")}
    slices = [{"sources": [source | {"layer_range": layers}]} for layers in ([0, 1], [0, 3])]
    merge_models(read_recipe(written(tmp_path, {"merge_method": "passthrough", "slices": slices})), tmp_path / "out")
    assert load_model(tmp_path / "out").config.windows == (6, 6, None, 6)


def test_layers_that_do_not_exist_are_refused(llamas: list[str], tmp_path: Path) -> None:
    slices = [{"sources": [{"model": llamas[0], "layer_range": [1, 5]}]}]
    with pytest.raises(UserError) as caught:
        merge_models(
            read_recipe(written(tmp_path, {"merge_method": "passthrough", "slices": slices})), tmp_path / "out"
        )
    assert caught.value.details == (f"{llamas[0]}: layers 1 to 5, of 3",)
