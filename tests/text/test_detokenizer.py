"""Streaming: never half a character, and the complete text in the end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers

from mlx_suite.text import StreamingDetokenizer, Tokenizer, load_tokenizer
from mlx_suite.text.fast_backend import FastBackend
from mlx_suite.text.settings import read_settings


def streamed(tokenizer: Tokenizer, ids: list[int], *, skip_special: bool = True) -> list[str]:
    detokenizer = StreamingDetokenizer(tokenizer, skip_special=skip_special)
    return [*(detokenizer.add(index) for index in ids), detokenizer.finish()]


def test_an_emoji_of_four_tokens_appears_with_its_last_token(byte_folder: Path) -> None:
    tokenizer = load_tokenizer(byte_folder)
    assert streamed(tokenizer, tokenizer.encode("a🦙b")) == ["a", "", "", "", "🦙", "b", ""]


def test_an_incomplete_character_is_replaced_at_the_end(byte_folder: Path) -> None:
    tokenizer = load_tokenizer(byte_folder)
    assert streamed(tokenizer, tokenizer.encode("a🦙")[:-1]) == ["a", "", "", "", "\ufffd"]


def test_special_tokens_are_hidden_by_default(byte_folder: Path) -> None:
    tokenizer = load_tokenizer(byte_folder)
    assert streamed(tokenizer, [39, 72, 265]) == ["H", "i", "", ""]
    assert streamed(tokenizer, [39, 72, 265], skip_special=False) == ["H", "i", "<|eot_id|>", ""]


def test_mistrals_leading_space_is_removed_once(
    family: Callable[[str], Any],
) -> None:
    tokenizer = family("mistral").tokenizer
    assert "".join(streamed(tokenizer, tokenizer.encode("  the  user"))) == "  the  user"[1:]
    assert "".join(streamed(tokenizer, tokenizer.encode("the user"))) == "the user"


@settings(max_examples=80, deadline=None)
@given(text=st.text(max_size=30))
@pytest.mark.parametrize("name", ["llama3", "gemma2", "mistral", "qwen2", "phi3"])
def test_streamed_text_is_the_decoded_text_for_any_text(family: Callable[[str], Any], name: str, text: str) -> None:
    tokenizer = family(name).tokenizer
    ids = tokenizer.encode(text)
    parts = streamed(tokenizer, ids)
    assert "".join(parts) == tokenizer.decode(ids)
    if "\ufffd" not in tokenizer.decode(ids):
        assert not any("\ufffd" in part for part in parts)


@settings(max_examples=80, deadline=None)
@given(ids=st.lists(st.integers(-1, 600), max_size=20), skip_special=st.booleans())
@pytest.mark.parametrize("name", ["llama3", "gemma2", "mistral"])
def test_streamed_text_is_the_decoded_text_for_any_ids(
    family: Callable[[str], Any], name: str, ids: list[int], skip_special: bool
) -> None:
    tokenizer = family(name).tokenizer
    whole = tokenizer.decode(ids, skip_special)
    assert "".join(streamed(tokenizer, ids, skip_special=skip_special)) == whole


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=30))
def test_streamed_text_is_the_decoded_text_with_sentencepiece(gemma2_model_folder: Path, text: str) -> None:
    tokenizer = load_tokenizer(gemma2_model_folder)
    ids = tokenizer.encode(text)
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)


def test_a_vocabulary_with_another_spelling_streams_through_its_own_decoder(tmp_path: Path) -> None:
    library = Library(models.WordLevel({"<unk>": 0, "one": 1, "two": 2}, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    backend = FastBackend(library)
    tokenizer = Tokenizer(backend=backend, settings=read_settings(tmp_path), origin="words")
    assert backend.token_bytes is None
    assert streamed(tokenizer, tokenizer.encode("one two one")) == ["one", " two", " one", ""]
