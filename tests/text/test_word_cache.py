"""Encoding word by word: the ids of whole texts, for every tokenizer whose words are independent."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_suite.text import Tokenizer, load_tokenizer, word_cache
from mlx_suite.text.fast_backend import FastBackend
from mlx_suite.text.word_cache import WORD, make_word_cache
from tests.text.conftest import LINES, Family

CACHED = ("llama3", "gemma2", "mistral", "phi3", "qwen2")

LETTERS = st.text(st.sampled_from("ab'sS.,7é́日🦙 \n\t\r\xa0\u2028\x1c▁<|>") | st.characters(codec="utf-8"), max_size=40)


def split(text: str) -> list[str]:
    return WORD.findall(text)


def test_a_text_is_cut_before_single_spaces_between_other_characters() -> None:
    assert split("It's a  dog.\n\n Yes, 3 \tcats ") == ["It's", " a  dog.\n\n Yes,", " 3 \tcats "]
    assert split("  two first") == ["  two", " first"]
    assert split("\n ") == ["\n "]
    assert split("a▁ b c") == ["a▁ b", " c"]


@settings(max_examples=100, deadline=None)
@given(LETTERS)
def test_the_words_make_up_the_text(text: str) -> None:
    assert "".join(split(text)) == text


@pytest.mark.parametrize("name", CACHED)
@pytest.mark.parametrize("at_start", [True, False])
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(LETTERS | st.sampled_from(LINES), max_size=3))
def test_a_batch_has_the_ids_of_each_text(
    family: Callable[[str], Family], name: str, at_start: bool, texts: list[str]
) -> None:
    backend = family(name).tokenizer.backend
    assert isinstance(backend, FastBackend) and backend._words is not None
    ids = [each.tolist() for each in backend.encode_batch(texts, at_start=at_start)]
    assert ids == [backend.encode(text, at_start=at_start).ids for text in texts]


@pytest.mark.parametrize("model", ["tiny-llama3", "tiny-gemma2"])
def test_the_shipped_tokenizers_encode_word_by_word(model: str) -> None:
    tokenizer = load_tokenizer(Path("models") / model)
    assert isinstance(tokenizer.backend, FastBackend) and tokenizer.backend._words is not None
    text = Path(__file__).read_text(encoding="utf-8")
    texts = [text, "Hi there, you"]
    assert [each.tolist() for each in tokenizer.encode_batch(texts)] == list(map(tokenizer.encode, texts))


def test_words_are_forgotten_when_there_are_too_many(letters: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_cache, "LIMIT", 20)
    texts = [f"w{number} x{number} y{number}" for number in range(30)]
    for _ in range(2):
        assert [letters.encode_batch([text])[0].tolist() for text in texts] == list(map(letters.encode, texts))


@pytest.fixture
def letters(byte_folder: Path) -> Tokenizer:
    return load_tokenizer(byte_folder)


def changed(folder: Path, **parts: object) -> dict[str, object]:
    state: dict[str, object] = json.loads((folder / "tokenizer.json").read_text())
    return {**state, **parts}


def added(content: str, **flags: bool) -> dict[str, object]:
    plain = dict.fromkeys(("special", "lstrip", "rstrip", "single_word", "normalized"), False)
    return {"id": 0, "content": content, **plain, **flags}


@pytest.mark.parametrize(
    "part",
    [
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": r".+"}, "behavior": "Isolated"}},
        {"normalizer": {"type": "NFKC"}},
        {"normalizer": {"type": "Lowercase"}},
        {"added_tokens": [added("New York")]},
        {"added_tokens": [added("<x>", rstrip=True)]},
        {"model": {"type": "Unigram", "vocab": []}},
    ],
)
def test_tokenizers_without_proof_encode_whole_texts(
    byte_folder: Path, letters: Tokenizer, part: dict[str, object]
) -> None:
    assert isinstance(letters.backend, FastBackend)
    library = letters.backend._library
    assert make_word_cache(changed(byte_folder), library, library) is not None
    assert make_word_cache(changed(byte_folder, **part), library, library) is None


def test_a_vocabulary_with_a_token_of_two_words_encodes_whole_texts(gemma2_folder: Path) -> None:
    state = changed(gemma2_folder)
    library = load_tokenizer(gemma2_folder).backend._library  # type: ignore[attr-defined]
    assert make_word_cache(state, library, library) is not None
    state["model"]["vocab"]["of▁the"] = 560  # type: ignore[index]
    assert make_word_cache(state, library, library) is None
