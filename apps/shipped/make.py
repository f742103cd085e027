"""Train a shipped checkpoint according to its plan: tokenizer, packed rows, weights. A killed run resumes."""

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
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.files import write_atomically
from mlx_suite.text import Tokenizer, load_chat_template, load_tokenizer
from mlx_suite.text.training import train_gemma2_tokenizer, train_llama3_tokenizer
from mlx_suite.training.loop import train

from .corpus import make_rows, tokenizer_texts
from .plans import TrainingPlan
from .tagged import BRIEF

TRAIN_TOKENIZER = {"llama3": train_llama3_tokenizer, "gemma2": train_gemma2_tokenizer}


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """A checkpoint to start from, and the phase to start at."""

    checkpoint: Path
    phase: int
    """First phase to train, counted from 1; the checkpoint contains the earlier ones."""


def make_tokenizer(plan: TrainingPlan, folder: Path) -> Tokenizer:
    """Train the plan's tokenizer into `folder`, unless it exists."""
    if not (folder / "tokenizer.json").exists():
        TRAIN_TOKENIZER[plan.family](list(tokenizer_texts(plan)), folder, plan.config["vocab_size"])
    return load_tokenizer(folder)


def special_ids(plan: TrainingPlan, tokenizer: Tokenizer) -> dict[str, Any]:
    """Token ids for `config.json` and `generation_config.json`: BOS, stop tokens, padding."""
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
    """Add stop tokens and tagging questions to the run's tokenizer folder; returns the folder."""
    folder = run / "tokenizer"
    ids = special_ids(plan, load_tokenizer(folder))
    write_atomically(folder / "generation_config.json", json.dumps(ids, indent=2) + "\n")
    if plan.tags:
        write_questions(BRIEF, folder / QUESTIONS_FILE)
    return folder


def make_model(plan: TrainingPlan, run: Path, beginning: Beginning | None = None) -> Llama | Gemma2:
    """Train phase by phase in `run`, skipping finished phases.

    With a `beginning`, training starts from that checkpoint. Raises UserError if its phase cannot start from a stored
    checkpoint.
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
    """Round the weights to bfloat16, as a saved checkpoint would."""
    model.update(tree_map(lambda array: array.astype(mx.bfloat16).astype(array.dtype), model.parameters()))
    mx.eval(model.parameters())


def _check_beginning(plan: TrainingPlan, beginning: Beginning) -> None:
    possible = [number for number, phase in enumerate(plan.phases, start=1) if phase.from_shipped]
    if beginning.phase not in possible:
        raise UserError(
            f"{plan.name} cannot start at phase {beginning.phase}, which does not start from a stored checkpoint",
            fix=f"start at phase {' or '.join(map(str, possible))}" if possible else "train it from its first phase",
        )


def _copy_tokenizer(checkpoint: Path, folder: Path) -> None:
    if (folder / "tokenizer.json").exists():
        return
    folder.mkdir(exist_ok=True)
    for name in TOKENIZER_FILES:
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, folder / name)
