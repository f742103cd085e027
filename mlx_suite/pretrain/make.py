"""From a plan to a trained model in a run folder: tokenizer, rows, weights. A killed run goes on where it was."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from mlx_suite.checkpoints.load import load_model
from mlx_suite.checkpoints.save import TOKENIZER_FILES
from mlx_suite.data.batch.batches import PackedBatches
from mlx_suite.data.questions import QUESTIONS_FILE, write_questions
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.gemma2 import Gemma2
from mlx_suite.modeling.llama import Llama
from mlx_suite.pretrain.corpus import make_rows, tokenizer_texts
from mlx_suite.pretrain.plans import TrainingPlan
from mlx_suite.pretrain.tagged import BRIEF
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically
from mlx_suite.text import Tokenizer, load_chat_template, load_tokenizer
from mlx_suite.text.training import train_gemma2_tokenizer, train_llama3_tokenizer
from mlx_suite.training.loop import train

TRAIN_TOKENIZER = {"llama3": train_llama3_tokenizer, "gemma2": train_gemma2_tokenizer}


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """A checkpoint of the plan's, as it stood before one of its phases."""

    checkpoint: Path
    phase: int
    """The first one to train, counted from 1; the ones before it are in the checkpoint."""


def make_tokenizer(plan: TrainingPlan, folder: Path) -> Tokenizer:
    """Train the plan's tokenizer into `folder`, unless it is there."""
    if not (folder / "tokenizer.json").exists():
        TRAIN_TOKENIZER[plan.family](list(tokenizer_texts(plan)), folder, plan.config["vocab_size"])
    return load_tokenizer(folder)


def special_ids(plan: TrainingPlan, tokenizer: Tokenizer) -> dict[str, Any]:
    """The ids `config.json` and `generation_config.json` name: bos, what ends a turn or a text, padding."""
    if plan.family == "llama3":
        ends = ["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"]
        pad = "<|finetune_right_pad_id|>"
    else:
        ends, pad = ["<eos>", "<end_of_turn>"], "<pad>"
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": [tokenizer.id_of(end) for end in ends],
        "pad_token_id": tokenizer.id_of(pad),
    }


def finish_tokenizer(plan: TrainingPlan, run: Path) -> Path:
    """The run's tokenizer folder, completed by what generation needs to know: when to stop, and how to ask for tags."""
    folder = run / "tokenizer"
    ids = special_ids(plan, load_tokenizer(folder))
    write_atomically(folder / "generation_config.json", json.dumps(ids, indent=2) + "\n")
    if plan.tags:
        write_questions(BRIEF, folder / QUESTIONS_FILE)
    return folder


def make_model(plan: TrainingPlan, run: Path, beginning: Beginning | None = None) -> Llama | Gemma2:
    """Train the plan in `run`, phase by phase; a phase that has ended is not run again.

    With a `beginning` its phases are trained from there on. Raises UserError where no phase begins at what a
    checkpoint holds.
    """
    run.mkdir(parents=True, exist_ok=True)
    if beginning is not None:
        _check_beginning(plan, beginning)
        _copy_tokenizer(beginning.checkpoint, run / "tokenizer")
    tokenizer = make_tokenizer(plan, run / "tokenizer")
    template = load_chat_template(run / "tokenizer")
    model = _first_weights(plan, tokenizer) if beginning is None else _stored_weights(beginning.checkpoint)
    for number, phase in enumerate(plan.phases):
        if beginning is not None and number + 1 < beginning.phase:
            continue
        folder = run / f"phase-{number + 1}"
        folder.mkdir(exist_ok=True)
        rows = make_rows(plan, number, tokenizer, template, folder / "rows.npz")
        if phase.from_shipped:
            _round_weights(model)
        train(model, PackedBatches(rows, phase.batch), phase.train, folder)
    return model


def _first_weights(plan: TrainingPlan, tokenizer: Tokenizer) -> Llama | Gemma2:
    config = ModelConfig.from_dict(plan.config | special_ids(plan, tokenizer))
    mx.random.seed(plan.seed)
    return Gemma2(config) if plan.family == "gemma2" else Llama(config)


def _stored_weights(checkpoint: Path) -> Llama | Gemma2:
    model = load_model(checkpoint, dtype="float32")
    assert isinstance(model, Llama | Gemma2)
    return model


def _round_weights(model: Llama | Gemma2) -> None:
    """What a checkpoint in bfloat16 keeps of the weights."""
    model.update(tree_map(lambda array: array.astype(mx.bfloat16).astype(array.dtype), model.parameters()))
    mx.eval(model.parameters())


def _check_beginning(plan: TrainingPlan, beginning: Beginning) -> None:
    possible = [number for number, phase in enumerate(plan.phases, start=1) if phase.from_shipped]
    if beginning.phase not in possible:
        raise UserError(
            f"{plan.name} cannot begin at phase {beginning.phase}: it does not start from a stored checkpoint",
            fix=f"begin at phase {' or '.join(map(str, possible))}" if possible else "make it from its first phase",
        )


def _copy_tokenizer(checkpoint: Path, folder: Path) -> None:
    if (folder / "tokenizer.json").exists():
        return
    folder.mkdir(exist_ok=True)
    for name in TOKENIZER_FILES:
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, folder / name)
