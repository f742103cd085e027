"""Fixtures: the tokenizers of tests/text, and tokenized corpora."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mlx_suite.data.corpus.token_file import TokenFile
from mlx_suite.data.corpus.tokenize import tokenize_corpus
from mlx_suite.text import Tokenizer, load_tokenizer
from tests.text.conftest import byte_folder, family, gemma2_folder, gemma2_model_folder, llama3_folder

__all__ = ["byte_folder", "family", "gemma2_folder", "gemma2_model_folder", "llama3_folder"]

MakeFile = Callable[[Sequence[str]], TokenFile]


@pytest.fixture(scope="session")
def letters(byte_folder: Path) -> Tokenizer:
    """A tokenizer with one token per letter, BOS and EOS: `A` is 32, `a` is 64."""
    return load_tokenizer(byte_folder)


@pytest.fixture
def make_file(tmp_path: Path, letters: Tokenizer) -> MakeFile:
    """Tokenize documents; each call makes a corpus of its own."""

    def make(texts: Sequence[str]) -> TokenFile:
        number = len(list(tmp_path.iterdir()))
        source = tmp_path / f"part{number}.txt"
        source.write_text("<end>".join(texts), encoding="utf-8")
        return tokenize_corpus(source, letters, tmp_path / f"tokens{number}", separator="<end>")

    return make
