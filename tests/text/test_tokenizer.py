"""Loading a tokenizer, encoding and decoding."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.runtime.errors import UserError
from mlx_suite.text import Tokenizer, load_tokenizer

TEXT = st.text(max_size=40)
HOSTILE = st.lists(
    st.sampled_from(
        ["<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<bos>", "<|begin_of_text|>"]
        + ["<start", "_of_turn>", "<|", "eot_id", "|>", " ", "\n", "hi", "é", "\ud83d"]
    ),
    max_size=12,
).map("".join)


@pytest.fixture(params=["llama3_folder", "gemma2_folder", "gemma2_model_folder"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return load_tokenizer(request.getfixturevalue(request.param))


def test_without_merges_ids_are_positions_in_the_byte_alphabet(byte_folder: Path) -> None:
    tokenizer = load_tokenizer(byte_folder)
    assert tokenizer.encode("Hi! é") == [39, 72, 0, 220, 127, 102]
    assert tokenizer.decode([39, 72, 0, 220, 127, 102]) == "Hi! é"
    assert tokenizer.vocab_size == 272


def test_eot_id_in_user_text_is_ordinary_text(byte_folder: Path) -> None:
    tokenizer = load_tokenizer(byte_folder)
    assert tokenizer.encode("<|eot_id|>") == [ord(letter) - 33 for letter in "<|eot_id|>"]
    assert tokenizer.encode_with_specials("<|eot_id|>") == [265]


def test_start_of_turn_in_user_text_is_ordinary_text_in_both_backends(
    gemma2_folder: Path, gemma2_model_folder: Path
) -> None:
    fast, slow = load_tokenizer(gemma2_folder), load_tokenizer(gemma2_model_folder)
    text = "<start_of_turn>user\n<bos>"
    assert 106 not in slow.encode(text)
    assert slow.encode(text) == fast.encode(text)
    assert slow.decode(slow.encode(text)) == text
    assert slow.encode_with_specials(text) == fast.encode_with_specials(text)
    assert slow.encode_with_specials(text)[0] == 106


@settings(max_examples=100, deadline=None)
@given(text=TEXT | HOSTILE)
def test_user_text_never_encodes_special_tokens_and_is_decoded_unchanged(
    llama3_folder: Path, gemma2_folder: Path, gemma2_model_folder: Path, text: str
) -> None:
    clean = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)
    for folder in (llama3_folder, gemma2_folder, gemma2_model_folder):
        tokenizer = _loaded(folder)
        ids = tokenizer.encode(text)
        assert not tokenizer.special_ids & set(ids)
        spaced = clean if folder == llama3_folder else clean.replace("▁", " ")
        assert tokenizer.decode(ids) == spaced


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 383), max_size=12))
def test_byte_level_decoding_equals_the_librarys_for_any_ids(llama3_folder: Path, ids: list[int]) -> None:
    tokenizer = _loaded(llama3_folder)
    assert tokenizer.decode(ids, skip_special=False) == tokenizer.backend.decode(ids)


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 559), max_size=12))
def test_sentencepiece_decoding_equals_the_librarys_for_valid_utf8(gemma2_folder: Path, ids: list[int]) -> None:
    tokenizer = _loaded(gemma2_folder)
    expected = tokenizer.backend.decode(ids)
    assert "\ufffd" in expected or tokenizer.decode(ids, skip_special=False) == expected


def test_special_tokens_are_hidden_by_default(byte_folder: Path) -> None:
    tokenizer = load_tokenizer(byte_folder)
    assert tokenizer.decode([256, 39, 72, 265]) == "Hi"
    assert tokenizer.decode([256, 39, 72, 265], skip_special=False) == ("<|begin_of_text|>Hi<|eot_id|>")


def test_an_id_beyond_the_vocabulary_has_no_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([*tokenizer.encode("Hi"), 100_000]) == "Hi"
    assert tokenizer.token_of(100_000) is None
    assert tokenizer.id_of("no such token") is None


def test_a_prompt_begins_with_one_bos(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_prompt("Hi") == [tokenizer.bos_id, *tokenizer.encode("Hi")]
    assert tokenizer.bos_id not in tokenizer.encode("Hi")


def test_a_model_without_bos_gets_none(family: Callable[[str], Any]) -> None:
    tokenizer = family("qwen2").tokenizer
    assert (tokenizer.bos_id, tokenizer.adds_bos) == (None, False)
    assert tokenizer.encode_prompt("Hi") == tokenizer.encode("Hi")


def test_bos_is_not_added_if_the_checkpoint_does_not_add_it(family: Callable[[str], Any]) -> None:
    tokenizer = family("phi3").tokenizer
    assert (tokenizer.bos_id, tokenizer.adds_bos) == (1, False)
    assert tokenizer.encode_prompt("Hi") == tokenizer.encode("Hi")


def test_bos_may_be_written_as_an_object(byte_folder: Path, tmp_path: Path) -> None:
    folder = _copy(byte_folder, tmp_path)
    _edit(folder / "tokenizer_config.json", bos_token={"content": "<|begin_of_text|>"})
    assert load_tokenizer(folder).bos_id == 256


def test_stop_ids_come_from_the_generation_config_then_the_config_then_the_tokenizer(
    byte_folder: Path, tmp_path: Path
) -> None:
    folder = _copy(byte_folder, tmp_path)
    assert load_tokenizer(folder).stop_ids == {265}
    (folder / "config.json").write_text('{"eos_token_id": 257}')
    assert load_tokenizer(folder).stop_ids == {257}
    (folder / "generation_config.json").write_text('{"eos_token_id": [257, 264, 265]}')
    assert load_tokenizer(folder).stop_ids == {257, 264, 265}


def test_a_padding_length_in_the_file_does_not_pad_or_cut_texts(byte_folder: Path, tmp_path: Path) -> None:
    folder = _copy(byte_folder, tmp_path)
    _edit(
        folder / "tokenizer.json",
        truncation={
            "direction": "Right",
            "max_length": 3,
            "strategy": "LongestFirst",
            "stride": 0,
        },
    )
    assert load_tokenizer(folder).encode("Hello") == [39, 68, 75, 75, 78]


def test_a_turn_marker_is_special_even_if_the_file_does_not_mark_it_so(gemma2_folder: Path, tmp_path: Path) -> None:
    folder = _copy(gemma2_folder, tmp_path)
    whole = json.loads((folder / "tokenizer.json").read_text())
    for token in whole["added_tokens"]:
        token["special"] = False
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    tokenizer = load_tokenizer(folder)
    assert 106 not in tokenizer.encode("<start_of_turn>")
    assert {0, 1, 2, 106, 107} <= tokenizer.special_ids


def test_an_ordinary_token_used_for_padding_is_still_ordinary_text(byte_folder: Path, tmp_path: Path) -> None:
    folder = _copy(byte_folder, tmp_path)
    _edit(folder / "tokenizer_config.json", pad_token="!")
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pad_id == 0
    assert tokenizer.decode(tokenizer.encode("Hi!")) == "Hi!"


def test_the_first_text_of_a_sequence_gets_a_space_and_later_ones_do_not(
    family: Callable[[str], Any],
) -> None:
    tokenizer = family("mistral").tokenizer
    first, later = tokenizer.encode("the"), tokenizer.encode_with_specials("[INST]the")[1:]
    assert tokenizer.token_of(first[0]).startswith("▁")
    assert not tokenizer.token_of(later[0]).startswith("▁")
    assert tokenizer.decode(first) == tokenizer.decode(later) == "the"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("tokenizer.json", "{", "tokenizer.json is not JSON"),
        ("tokenizer.json", "null", "tokenizer.json contains null, not an object"),
        ("tokenizer.json", '{"model": []}', "model is [], not an object with a vocab"),
        ("tokenizer.json", '{"added_tokens": [{"id": "1"}]}', 'added_tokens is [{"id": "1"}], not a list of tokens'),
        ("tokenizer.json", '{"model": {"vocab": {}, "type": "New"}}', "tokenizer.json cannot be read: "),
        ("tokenizer_config.json", "{", "tokenizer_config.json is not JSON"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json contains a list, not an object"),
        (
            "generation_config.json",
            '{"eos_token_id": "</s>"}',
            'eos_token_id is "</s>", not a token id or a list of token ids',
        ),
    ],
)
def test_the_error_for_a_damaged_file_names_the_file_and_the_problem(
    byte_folder: Path, tmp_path: Path, name: str, text: str, problem: str
) -> None:
    folder = _copy(byte_folder, tmp_path)
    (folder / name).write_text(text)
    with pytest.raises(UserError) as caught:
        load_tokenizer(folder)
    assert caught.value.what.startswith(problem)
    assert caught.value.where == str(folder / name)
    assert caught.value.fix


def test_a_damaged_sentencepiece_model_is_an_error(gemma2_model_folder: Path, tmp_path: Path) -> None:
    folder = _copy(gemma2_model_folder, tmp_path)
    (folder / "tokenizer.model").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="tokenizer.model is not a SentencePiece model"):
        load_tokenizer(folder)


def test_a_sentencepiece_model_without_a_config_provides_bos_and_eos(gemma2_folder: Path, tmp_path: Path) -> None:
    shutil.copy(gemma2_folder / "tokenizer.model", tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.bos_id, tokenizer.stop_ids, tokenizer.pad_id) == (2, frozenset({1}), 0)
    assert tokenizer.encode_prompt("user") == [2, tokenizer.id_of("user")]


def test_the_error_for_a_missing_tokenizer_names_the_expected_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither tokenizer.json nor tokenizer.model"):
        load_tokenizer(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        load_tokenizer(tmp_path / "missing")


def test_loading_a_tokenizer_imports_neither_transformers_nor_mlx(byte_folder: Path) -> None:
    program = (
        "import sys; from mlx_suite.text import load_tokenizer; "
        f"load_tokenizer({str(byte_folder)!r}); "
        "print(sorted({'transformers', 'mlx', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


_tokenizers: dict[Path, Tokenizer] = {}


def _loaded(folder: Path) -> Tokenizer:
    return _tokenizers.setdefault(folder, load_tokenizer(folder))


def _copy(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target, dirs_exist_ok=True)
    return target


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
