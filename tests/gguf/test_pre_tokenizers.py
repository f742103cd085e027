"""Pre-tokenizers by name: how each splits a text into words."""

import json

import pytest
from tokenizers import Tokenizer, decoders

from mlx_suite.gguf.pre_tokenizers import PRE_TOKENIZERS, find_pre_tokenizer, pre_tokenizer_json


def words(name: str, text: str) -> list[str]:
    """The words of a text, decoded from their bytes."""
    file = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer_json(find_pre_tokenizer(name)),
        "post_processor": None,
        "decoder": None,
        "model": {"type": "BPE", "vocab": {}, "merges": []},
    }
    splitter = Tokenizer.from_str(json.dumps(file)).pre_tokenizer
    decode = decoders.ByteLevel().decode
    return [decode([word]) for word, _ in splitter.pre_tokenize_str(text)]


TEXT = "It's 12345 McDonald's, naïve!\n\n  x/*\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama-bpe", ["It", "'s", " ", "123", "45", " McDonald", "'s", ",", " naïve", "!\n\n", " ", " x", "/*\n"]),
        (
            "qwen2",
            ["It", "'s", " ", "1", "2", "3", "4", "5", " McDonald", "'s", ",", " naïve", "!\n\n", " ", " x", "/*\n"],
        ),
        (
            "tekken",
            ["It", "'s", " ", *"12345", " Mc", "Donald", "'s", ",", " naïve", "!\n\n", " ", " x", "/*\n"],
        ),
        ("gpt-2", ["It", "'s", " 12345", " McDonald", "'s", ",", " naïve", "!", "\n\n ", " x", "/*", "\n"]),
        (
            "smollm",
            ["It", "'s", " ", *"12345", " McDonald", "'s", ",", " naïve", "!", "\n\n ", " x", "/*", "\n"],
        ),
        (
            "deepseek-v3",
            ["It", "'s", " ", "123", "45", " McDonald", "'s", ",", " naïve", "!\n\n", " ", " x", "/*\n"],
        ),
        (
            "deepseek-coder",
            [
                "It",
                "'",
                "s",
                " ",
                *"12345",
                " McDonald",
                "'",
                "s",
                ",",
                " naïve",
                "!",
                "\n",
                "\n",
                " ",
                " x",
                "/*",
                "\n",
            ],
        ),
    ],
)
def test_each_name_splits_in_its_own_way(name: str, expected: list[str]) -> None:
    assert words(name, TEXT) == expected


def test_combining_marks_stay_with_their_letters_in_qwen_3_5_only() -> None:
    assert words("qwen35", "नमस्ते") == ["नमस्ते"]
    assert len(words("qwen2", "नमस्ते")) > 1


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_no_pre_tokenizer_loses_a_character(name: str) -> None:
    text = " tabs\t\tand\r\nlines \u3000 한국어 かな 漢字 é e\u0301 🦙 ½ Ⅷ _a_ $1.50 'S "
    assert "".join(words(name, text)) == text
