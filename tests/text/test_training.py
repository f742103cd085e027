"""The trained tokenizers have the structure of Llama 3's and Gemma 2's, at a small size."""

import json
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from mlx_suite.text.training import (
    GEMMA_CONTROLS,
    train_gemma2_tokenizer,
    train_llama3_tokenizer,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
FRAGMENTS = st.lists(
    st.sampled_from(["the ", "user", " ", "\n", "==", "12", "é", "日", "🦙", "▁", "<unused3>"]),
    max_size=20,
).map("".join)


def test_the_last_sixteen_ids_are_llama_31s_special_tokens(llama3_folder: Path) -> None:
    library = Library.from_file(str(llama3_folder / "tokenizer.json"))
    names = [library.id_to_token(index) for index in range(384 - 16, 384)]
    assert names[:11] == [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|reserved_special_token_0|>",
        "<|reserved_special_token_1|>",
        "<|finetune_right_pad_id|>",
        "<|reserved_special_token_2|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|python_tag|>",
    ]
    assert library.get_vocab_size() == 384


def test_gemmas_fixed_pieces_have_gemmas_ids(gemma2_folder: Path) -> None:
    slow = sentencepiece.SentencePieceProcessor(model_file=str(gemma2_folder / "tokenizer.model"))
    expected = {
        "<pad>": 0,
        "<eos>": 1,
        "<bos>": 2,
        "<unk>": 3,
        "<mask>": 4,
        "[@BOS@]": 5,
        "<unused0>": 6,
        "<unused99>": 105,
        "<start_of_turn>": 106,
        "<end_of_turn>": 107,
        "\n": 108,
    }
    assert {name: slow.piece_to_id(name) for name in expected} == expected
    assert slow.get_piece_size() == 560


@settings(max_examples=150, deadline=None)
@given(text=TEXT | FRAGMENTS)
def test_both_files_of_the_gemma_tokenizer_give_the_same_ids(gemma2_folder: Path, text: str) -> None:
    assume(not any(name in text for name in GEMMA_CONTROLS))  # the only intended difference
    fast = Library.from_file(str(gemma2_folder / "tokenizer.json"))
    slow = sentencepiece.SentencePieceProcessor(model_file=str(gemma2_folder / "tokenizer.model"))
    assert fast.encode(text).ids == [2, *slow.encode(text)]


def test_training_is_deterministic(tmp_path: Path) -> None:
    texts = ["a small world of people and places, of letters and numbers: 0 1 2\n"] * 5
    for train, size in ((train_llama3_tokenizer, 290), (train_gemma2_tokenizer, 480)):
        for name in ("first", "second"):
            train(texts, tmp_path / name, size)
        files = sorted(path.name for path in (tmp_path / "first").iterdir())
        assert [(tmp_path / "first" / name).read_bytes() for name in files] == [
            (tmp_path / "second" / name).read_bytes() for name in files
        ]


def test_too_little_text_for_the_vocabulary_is_an_error_with_the_possible_size(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match=r"fill only 257 of 1520 text ids.*vocab_size to at most 273"):
        train_llama3_tokenizer(["ab"], tmp_path)
    with pytest.raises(ValueError, match="could not train 1536 ids"):
        train_gemma2_tokenizer(["ab"], tmp_path)


def test_the_folder_lists_its_special_tokens(llama3_folder: Path, gemma2_folder: Path) -> None:
    llama = json.loads((llama3_folder / "tokenizer_config.json").read_text())
    gemma = json.loads((gemma2_folder / "tokenizer_config.json").read_text())
    assert (llama["bos_token"], llama["eos_token"], llama["pad_token"]) == (
        "<|begin_of_text|>",
        "<|eot_id|>",
        "<|finetune_right_pad_id|>",
    )
    assert (gemma["bos_token"], gemma["eos_token"], gemma["pad_token"]) == (
        "<bos>",
        "<eos>",
        "<pad>",
    )
