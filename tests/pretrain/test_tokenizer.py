"""The tokenizer of a new model: copied, or trained on the corpus, and made again only if its settings change."""

from pathlib import Path

import pytest

from mlx_suite.pretrain.settings import CorpusPart, TokenizerSource
from mlx_suite.pretrain.tokenizer import tokenizer_folder
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import load_tokenizer
from tests.pretrain.story import write_rhymes


@pytest.fixture
def parts(tmp_path: Path) -> tuple[CorpusPart, ...]:
    return (CorpusPart(path=str(write_rhymes(tmp_path / "rhymes.jsonl"))),)


def test_a_trained_tokenizer_knows_the_words_of_the_corpus_and_ends_documents(
    parts: tuple[CorpusPart, ...], tmp_path: Path
) -> None:
    folder = tokenizer_folder(TokenizerSource(train=280), parts, tmp_path)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.vocab_size == 280
    assert [tokenizer.token_of(index) for index in tokenizer.encode(" cats")] == ["Ġcats"]
    assert (tokenizer.bos_id, tokenizer.eos_id) == (264, 265)
    assert tokenizer.token_of(265) == "<|end_of_text|>"
    assert sorted(tokenizer.stop_ids) == [265, 272, 273]


def test_a_copied_tokenizer_is_that_of_its_checkpoint(letters: Path, tmp_path: Path) -> None:
    folder = tokenizer_folder(TokenizerSource(checkpoint=str(letters)), (), tmp_path)
    assert (folder / "tokenizer.json").read_bytes() == (letters / "tokenizer.json").read_bytes()
    assert not (folder / "model.safetensors").exists()


def test_a_tokenizer_is_made_once_per_settings(parts: tuple[CorpusPart, ...], tmp_path: Path) -> None:
    def made(ids: int) -> int:
        return (tokenizer_folder(TokenizerSource(train=ids), parts, tmp_path) / "tokenizer.json").stat().st_ino

    first = made(280)
    assert made(280) == first
    assert made(276) != first


def test_a_corpus_that_is_too_small_for_a_tokenizer_is_refused(parts: tuple[CorpusPart, ...], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        tokenizer_folder(TokenizerSource(train=4096), parts, tmp_path)
    assert caught.value.what.startswith("The corpus is too small for a tokenizer of 4,096 ids: the texts fill only")
    assert not (tmp_path / "tokenizer").exists()
