"""From a recipe to a trained model in a run folder: tokenizer, rows, weights. A killed run goes on where it was."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_suite.data.batches import PackedBatches
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.gemma2 import Gemma2
from mlx_suite.modeling.llama import Llama
from mlx_suite.pretrain.corpus import make_rows, tokenizer_texts
from mlx_suite.pretrain.recipe import Recipe
from mlx_suite.runtime.files import write_atomically
from mlx_suite.text import Tokenizer, load_chat_template, load_tokenizer
from mlx_suite.text.training import train_gemma2_tokenizer, train_llama3_tokenizer
from mlx_suite.training.loop import train

TRAIN_TOKENIZER = {"llama3": train_llama3_tokenizer, "gemma2": train_gemma2_tokenizer}


def make_tokenizer(recipe: Recipe, folder: Path) -> Tokenizer:
    """Train the recipe's tokenizer into `folder`, unless it is there."""
    if not (folder / "tokenizer.json").exists():
        TRAIN_TOKENIZER[recipe.family](list(tokenizer_texts(recipe)), folder, recipe.config["vocab_size"])
    return load_tokenizer(folder)


def special_ids(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, Any]:
    """The ids `config.json` and `generation_config.json` name: bos, what ends a turn or a text, padding."""
    if recipe.family == "llama3":
        ends = ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]
        pad = "<|finetune_right_pad_id|>"
    else:
        ends, pad = ["<eos>", "<end_of_turn>"], "<pad>"
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": [tokenizer.id_of(end) for end in ends],
        "pad_token_id": tokenizer.id_of(pad),
    }


def finish_tokenizer(recipe: Recipe, run: Path) -> Path:
    """The run's tokenizer folder, completed by what generation needs to know: when to stop."""
    folder = run / "tokenizer"
    ids = special_ids(recipe, load_tokenizer(folder))
    write_atomically(folder / "generation_config.json", json.dumps(ids, indent=2) + "\n")
    return folder


def make_model(recipe: Recipe, run: Path) -> Llama | Gemma2:
    """Train the recipe in `run`, phase by phase; a phase that has ended is not run again."""
    run.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(recipe, run / "tokenizer")
    template = load_chat_template(run / "tokenizer")
    config = ModelConfig.from_dict(recipe.config | special_ids(recipe, tokenizer))
    mx.random.seed(recipe.seed)
    model = Gemma2(config) if recipe.family == "gemma2" else Llama(config)
    for number, phase in enumerate(recipe.phases):
        folder = run / f"phase-{number + 1}"
        folder.mkdir(exist_ok=True)
        rows = make_rows(recipe, number, tokenizer, template, folder / "rows.npz")
        train(model, PackedBatches(rows, phase.batch), phase.train, folder)
    return model
