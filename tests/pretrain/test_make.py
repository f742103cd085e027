"""From a recipe to a checkpoint folder, at a size that takes seconds; and what the shipped recipes come to."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_suite import load
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.loading import build_model
from mlx_suite.modeling.saving import save_model
from mlx_suite.modeling.weights import parameter_count
from mlx_suite.pretrain import RECIPES
from mlx_suite.pretrain.make import finish_tokenizer, make_model, make_tokenizer
from mlx_suite.text import derive_pre_query, load_chat_template
from tests.pretrain.conftest import Made, toy_recipe

NAMES = ["tiny-llama3", "tiny-gemma2"]


def losses(run: Path, phase: int) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / f"phase-{phase}" / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """Without `mx.compile`, which takes a second for each new kernel."""
    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_becomes_a_folder_that_loads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, run, folder = toy_recipe(name), tmp_path / "run", tmp_path / name
    model = make_model(recipe, run)
    save_model(folder, model, dtype="bfloat16", tokenizer_from=finish_tokenizer(recipe, run))

    assert [len(losses(run, phase)) for phase in (1, 2)] == [3, 2]
    loaded, tokenizer = load(folder, dtype="float32")
    template = load_chat_template(folder)
    assert tokenizer.vocab_size == recipe.config["vocab_size"] == loaded.config.vocab_size
    header = derive_pre_query(tokenizer, template)
    tokens = mx.array([list(header.header_ids)])
    assert loaded(tokens).shape == (1, len(header.header_ids), recipe.config["vocab_size"])
    # What was trained is what was saved, but for the rounding to bf16.
    difference = mx.abs(loaded(tokens) - model(tokens)).max().item()
    assert difference < 0.02 * mx.abs(model(tokens)).max().item()
    assert json.loads((folder / "config.json").read_text())["eos_token_id"] == sorted(tokenizer.stop_ids)
    assert tokenizer.stop_ids >= {header.assistant_stop_ids[0]}

    # A recipe that has ended is not run again: the same weights, at once.
    monkeypatch.setattr("mlx_suite.training.loop.save_checkpoint", None)
    again = make_model(recipe, run)
    for (key, one), (_, other) in zip(tree_flatten(model.parameters()), tree_flatten(again.parameters()), strict=True):
        assert np.array_equal(np.array(one), np.array(other)), key


@pytest.mark.parametrize(
    ("name", "bos", "ends", "pad"),
    [("tiny-llama3", 368, [369, 376, 377], 372), ("tiny-gemma2", 2, [1, 107], 0)],
)
def test_generation_is_told_where_to_stop(
    name: str, bos: int, ends: list[int], pad: int, made: Callable[[str], Made], tmp_path: Path
) -> None:
    recipe = made(name).recipe
    make_tokenizer(recipe, tmp_path / "tokenizer")
    folder = finish_tokenizer(recipe, tmp_path)
    settings = json.loads((folder / "generation_config.json").read_text())
    assert settings == {"bos_token_id": bos, "eos_token_id": ends, "pad_token_id": pad}


def test_the_same_texts_make_the_same_tokenizer(made: Callable[[str], Made], tmp_path: Path) -> None:
    for name in NAMES:
        one = made(name)
        make_tokenizer(one.recipe, tmp_path / name)
        for path in one.folder.iterdir():
            if path.name != "generation_config.json":
                assert (tmp_path / name / path.name).read_bytes() == path.read_bytes()


# ---- the shipped recipes


@pytest.mark.parametrize(("name", "count"), [("tiny-llama3", 2_607_168), ("tiny-gemma2", 1_682_080)])
def test_the_recipes_have_the_parameters_their_cards_tell(name: str, count: int) -> None:
    model = build_model(ModelConfig.from_dict(RECIPES[name].config))
    assert parameter_count(model.parameters()) == count


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_in_bf16_stays_below_10_megabytes(name: str, made: Callable[[str], Made], tmp_path: Path) -> None:
    model = build_model(ModelConfig.from_dict(RECIPES[name].config))
    save_model(tmp_path / name, model, dtype="bfloat16", tokenizer_from=made(name).folder)
    size = sum(path.stat().st_size for path in (tmp_path / name).iterdir())
    # A tokenizer of 2,048 ids takes at most 400 bytes an id.
    assert size + 2048 * 400 < 10_000_000


def test_the_recipes_keep_what_makes_their_family() -> None:
    llama, gemma = (ModelConfig.from_dict(RECIPES[name].config) for name in NAMES)
    assert (llama.rope.theta, llama.tie_word_embeddings, llama.windows) == (500000.0, True, (None,) * 5)
    assert (gemma.attn_logit_softcapping, gemma.final_logit_softcapping) == (50.0, 30.0)
    assert gemma.windows == (32, None, 32, None)
    for recipe, config in zip(RECIPES.values(), (llama, gemma), strict=True):
        assert config.num_attention_heads == 2 * config.num_key_value_heads
        assert recipe.row_length <= config.max_position_embeddings
        assert all(window < recipe.row_length for window in config.windows if window)
