"""A checkpoint with random weights whose responses are short texts of the letters a, b, c."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlx_suite import load
from mlx_suite.text import ChatTemplate, Tokenizer, load_chat_template
from tests.magpie.random_checkpoint import write_checkpoint


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The checkpoint, loaded."""

    folder: Path
    model: Any
    tokenizer: Tokenizer
    template: ChatTemplate


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = write_checkpoint(tmp_path_factory.mktemp("evaluated"))
    model, tokenizer = load(folder)
    return Loaded(folder=folder, model=model, tokenizer=tokenizer, template=load_chat_template(folder))
