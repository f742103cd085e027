"""`mlx-suite merge`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mlx_suite.runtime.errors import UserError
from mlx_suite.transfer.merge import recipe
from mlx_suite_apps.cli.main import app
from mlx_suite_apps.cli.merge import METHODS
from tests.transfer.merge.models import differences, near


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["merge", *map(str, arguments)], catch_exceptions=False)


def refused(*arguments: str | Path) -> UserError:
    with pytest.raises(UserError) as caught:
        run(*arguments)
    return caught.value


@pytest.fixture(scope="module")
def models(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base and two models near it."""
    folder = tmp_path_factory.mktemp("merge")
    return [random_model, near(random_model, folder / "a", 1, 0.01), near(random_model, folder / "b", 2, 0.01)]


def test_the_methods_of_the_help_are_those_of_the_library() -> None:
    assert set(METHODS) == set(recipe.METHODS) - {"passthrough"}


def test_merging_says_what_was_made(models: list[Path], tmp_path: Path) -> None:
    _, one, two = models
    lines = run("linear", one, two, "--out", tmp_path / "out", "--quiet").stdout.splitlines()
    assert lines[0] == "merged     2 models with linear, 36,000 parameters"
    assert lines[1].startswith("weights    float32, digest ") and lines[1].endswith(", 1 file")
    assert lines[3:] == [f"model      {tmp_path / 'out'}", f'try it     mlx-suite generate {tmp_path / "out"} "…"']


def test_merging_reports_the_same_as_json(models: list[Path], tmp_path: Path) -> None:
    base, *others = models
    facts = json.loads(run("ties", *others, "--base", base, "--out", tmp_path / "out", "--json").stdout)
    assert (facts["method"], facts["dtype"], facts["files"]) == ("ties", "float32", 1)
    assert list(facts["models"]) == [*map(str, others), str(base)]


def test_values_may_be_given_per_model_by_name_and_as_gradients(models: list[Path], tmp_path: Path) -> None:
    base, *others = models
    flags = ("--weights", "1,0", "--weights", "mlp=0,0:1", "--base", base, "--out", tmp_path / "out")
    run("task", *others, *flags, "--quiet")
    of_first, of_second = (differences(tmp_path / "out", each) for each in others)
    assert of_first["model.layers.0.self_attn.q_proj.weight"] < 1e-6
    assert of_second["model.layers.1.mlp.up_proj.weight"] < 1e-6
    assert differences(tmp_path / "out", base)["model.layers.0.mlp.up_proj.weight"] == 0


def test_every_value_that_cannot_be_used_is_listed(models: list[Path], tmp_path: Path) -> None:
    error = refused("slerp", *models[1:], "--t", "x", "--t", "0.1,0.2", "--weights", "1,2,3", "--out", tmp_path / "out")
    assert error.details == (
        "--weights 1,2,3: 3 values for 2 models",
        "--t x: expected numbers such as 0.5, 0.7,0.3 or mlp=0:0.5:1",
        "--t 0.1,0.2: it has one value for all models; write a gradient with colons",
    )


def test_a_recipe_file_is_read(models: list[Path], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        f"merge_method: linear\nmodels:\n- model: {models[1]}\n- model: {models[2]}\n"
    )
    run(tmp_path / "recipe.yaml", "--out", tmp_path / "one", "--quiet")
    run("linear", *models[1:], "--out", tmp_path / "other", "--quiet")
    assert set(differences(tmp_path / "one", tmp_path / "other").values()) == {0.0}
    assert refused(tmp_path / "recipe.yaml", models[0], "--out", tmp_path / "x").what.startswith("A recipe names")


def test_mistakes_are_refused_with_a_fix(models: list[Path], tmp_path: Path) -> None:
    assert refused("tise", *models, "--out", tmp_path / "x").fix == "did you mean ties?"
    assert refused("linear", *models).where == "--out"
    assert refused("linear", models[1], models[1], "--out", tmp_path / "x").fix.startswith("name each model once")
    assert refused("linear", *models[1:], "--base", models[0], "--out", tmp_path / "x").fix.startswith("omit --base")
    assert refused("linear", *models, "--shard-size", "much", "--out", tmp_path / "x").where == "--shard-size"
