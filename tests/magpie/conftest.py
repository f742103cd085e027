"""A random checkpoint that yields every kind of row, and fixtures with datasets from it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_suite import load
from mlx_suite.data.questions import Question, Questions
from mlx_suite.magpie import MagpieSettings, RunSummary, make_dataset
from mlx_suite.text import ChatTemplate, Tokenizer, load_chat_template
from tests.magpie.random_checkpoint import write_checkpoint

SMALL = {"max_instruction": 12, "max_answer": 16, "answer_temperature": 1.0}
"""Settings under which the random model yields rows with every outcome."""
QUESTIONS = Questions(
    listening="?",
    questions=(
        Question(name="category", about="instruction", text="a?", labels=("v", "Q", "1")),
        Question(name="input_quality", about="instruction", text="b?", labels=("poor", "good")),
        Question(name="answer_quality", about="answer", text="a b?", labels=("poor", "good")),
    ),
)
"""Short questions. The random model's rows differ in category and are all of the same quality."""
FILES = ("manifest.json", "drafts.jsonl", "accepted.jsonl", "rejected.jsonl", "embeddings.npy")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A loaded checkpoint."""

    folder: Path
    model: Any
    tokenizer: Tokenizer
    template: ChatTemplate

    def make(self, out: Path, count: int = 30, on_progress: Any = None, **settings: Any) -> RunSummary:
        return make_dataset(
            self.model, self.tokenizer, self.template, self.settings(count, **settings), out, on_progress, QUESTIONS
        )

    def settings(self, count: int = 30, **settings: Any) -> MagpieSettings:
        return MagpieSettings(**{**SMALL, "count": count, "batch": 8, **settings})


def load_checkpoint(folder: Path) -> Loaded:
    model, tokenizer = load(folder)
    return Loaded(folder=folder, model=model, tokenizer=tokenizer, template=load_chat_template(folder))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load_checkpoint(write_checkpoint(tmp_path_factory.mktemp("random")))


@pytest.fixture(scope="session")
def undisturbed(checkpoint: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 30 rows from an uninterrupted run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    checkpoint.make(folder)
    return folder


@pytest.fixture(scope="session")
def same_rows(undisturbed: Path) -> Callable[[Path], None]:
    """Asserts that a folder holds the rows of `undisturbed`, byte for byte.

    Embeddings may differ by rounding, which depends on the number of slots.
    """

    def check(folder: Path) -> None:
        for name in ("accepted.jsonl", "rejected.jsonl"):
            assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()
        ours, theirs = (np.load(each / "embeddings.npy") for each in (folder, undisturbed))
        np.testing.assert_allclose(ours, theirs, atol=2e-3)

    return check
