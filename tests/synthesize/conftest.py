"""A tokenizer of bytes with the special tokens of a base model, and a scripted engine."""

from collections.abc import Callable

import pytest

from mlx_suite.text import Tokenizer, load_tokenizer
from mlx_suite.text.training import train_base_tokenizer
from tests.synthesize.scripted_synthesizer import Says, ScriptedEngine, one_pair


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """256 bytes and <unk>, <s>, </s>, <pad>."""
    folder = tmp_path_factory.mktemp("bytes")
    train_base_tokenizer([], folder, vocab_size=260)
    return load_tokenizer(folder)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer) -> Callable[[Says], ScriptedEngine]:
    """Makes a function write all completions."""

    def install(says: Says = one_pair) -> ScriptedEngine:
        engine = ScriptedEngine(says, tokenizer)
        monkeypatch.setattr("mlx_suite.synthesize.generation.Engine", engine)
        return engine

    return install
