"""The shipped recipes at a size that is made in a second, and their tokenizers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import mlx_suite  # noqa: F401  (a fast BLAS, before any test module imports MLX)
from mlx_suite.pretrain import RECIPES, Phase, Recipe
from mlx_suite.pretrain.make import make_tokenizer
from mlx_suite.text import ChatTemplate, Tokenizer, load_chat_template
from mlx_suite.training.loop import TrainSettings

VOCABULARY = {"tiny-llama3": 384, "tiny-gemma2": 480}
SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
}


def toy_recipe(name: str) -> Recipe:
    """A shipped recipe with a narrow model, few documents and 3 + 2 steps."""
    recipe = RECIPES[name]
    practised = ("add", "table_total")
    return replace(
        recipe,
        config=recipe.config | SHAPE | {"vocab_size": VOCABULARY[name]},
        tokenizer_documents=200,
        phases=(
            Phase(documents=90, batch=4, train=TrainSettings(steps=3, warmup=1, log_every=1)),
            Phase(
                documents=90,
                batch=4,
                train=TrainSettings(steps=2, warmup=1, log_every=1, seed=1),
                drill_share=0.3,
                practice_share=0.3,
                practised=practised,
                echo_share=0.1,
                user_weight=0.25,
            ),
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Made:
    """A toy recipe and its tokenizer."""

    recipe: Recipe
    folder: Path
    tokenizer: Tokenizer
    template: ChatTemplate


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Gives the toy recipe of a name, its tokenizer trained."""
    known: dict[str, Made] = {}

    def make(name: str) -> Made:
        if name not in known:
            recipe, folder = toy_recipe(name), tmp_path_factory.mktemp(name)
            tokenizer = make_tokenizer(recipe, folder)
            known[name] = Made(recipe=recipe, folder=folder, tokenizer=tokenizer, template=load_chat_template(folder))
        return known[name]

    return make
