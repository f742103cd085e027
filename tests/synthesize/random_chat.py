"""A chat model with random weights, whose rewrites are short texts that depend on every earlier token."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlx_suite import load
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.synthesize.instruct import ChatWriter
from mlx_suite.synthesize.run import CorpusJob
from mlx_suite.synthesize.settings import SynthesisSettings
from mlx_suite.text import load_chat_template
from tests.magpie.random_checkpoint import write_checkpoint
from tests.synthesize.scripted_synthesizer import corpus_of

TEXTS = [f"Text {number} is about {thing}." for number, thing in enumerate(("tea", "rain", "a dog", "glass", "boats"))]
"""Short, because the model's tokens are bytes and the prompts are long."""


def write_random_chat(folder: Path) -> Path:
    """Write the checkpoint, with a context that holds the prompts."""
    write_checkpoint(folder, end=0.1)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    return folder


def random_job(folder: Path, *, batch: int, **settings: Any) -> CorpusJob:
    """A job that rewrites `TEXTS` in chains with the checkpoint in `folder`."""
    model, tokenizer = load(folder)
    chat = ChatModel(model=model, tokenizer=tokenizer, template=load_chat_template(folder))
    given = {"forms": ("prose", "continue"), "rounds": 3, "max_tokens": 24, **settings}
    return CorpusJob(
        model=model,
        writer=ChatWriter(chat=replace(chat, slots=batch)),
        corpus=corpus_of(TEXTS, size=3),
        settings=SynthesisSettings(**given),
        batch=batch,
    )
