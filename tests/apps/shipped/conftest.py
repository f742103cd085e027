"""Shipped plans shrunk to train in a second, and their tokenizers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import mlx_suite  # noqa: F401  (a fast BLAS, before any test module imports MLX)
from mlx_suite.text import ChatTemplate, Tokenizer, load_chat_template
from mlx_suite.training.loop import TrainSettings
from mlx_suite_apps.shipped.make import make_tokenizer
from mlx_suite_apps.shipped.plans import PLANS, Phase, TrainingPlan

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


def toy_plan(name: str) -> TrainingPlan:
    """A shipped plan with a narrow model, few documents and 3 + 2 steps."""
    plan = PLANS[name]
    practised = ("add", "table_total")
    return replace(
        plan,
        config=plan.config | SHAPE | {"vocab_size": VOCABULARY[name]},
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
    """A toy plan and its tokenizer."""

    plan: TrainingPlan
    folder: Path
    tokenizer: Tokenizer
    template: ChatTemplate


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Function that makes the toy plan of the given name, with a trained tokenizer."""
    known: dict[str, Made] = {}

    def make(name: str) -> Made:
        if name not in known:
            plan, folder = toy_plan(name), tmp_path_factory.mktemp(name)
            tokenizer = make_tokenizer(plan, folder)
            known[name] = Made(plan=plan, folder=folder, tokenizer=tokenizer, template=load_chat_template(folder))
        return known[name]

    return make
