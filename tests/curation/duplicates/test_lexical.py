"""Words, their Jaccard similarity, and the index of near-duplicates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.curation.duplicates.lexical import LexicalIndex, similarity
from mlx_suite.curation.duplicates.words import words
from tests.curation.duplicates import similar_texts

FEW_WORDS = st.lists(st.sampled_from("a sea poem write please about the 3 4 + 海".split()), max_size=12).map(" ".join)


def jaccard(one: str, other: str) -> float:
    return similarity(" ".join(words(one)), " ".join(words(other)))


def match_in(texts: list[str], text: str) -> tuple[int, float] | None:
    index = LexicalIndex()
    for key, each in enumerate(texts):
        index.add(key, each)
    return index.find(text)


def test_words_ignore_case_punctuation_and_layout() -> None:
    assert words("Don't panic,\n  said  “Zoë”!") == ["dont", "panic", "said", "zoë"]


def test_symbols_of_code_and_arithmetic_are_words() -> None:
    assert words("x_1 = 3*4 − y×z; # a - b") == ["x_1", "=", "3", "*", "4", "-", "y", "*", "z", "#", "a", "-", "b"]


def test_symbols_at_the_end_of_a_name_belong_to_it() -> None:
    assert words("C++: F#, C++11; an A+") == ["c++", "f#", "c++11", "an", "a+"]
    assert words("a+b 3+4 ## Title #tag") == ["a", "+", "b", "3", "+", "4", "#", "#", "title", "#", "tag"]


def test_characters_are_words_in_scripts_without_spaces() -> None:
    assert words("12加30 ok。") == ["12", "加", "30", "ok"]
    assert words("ทะเล") == ["ท", "ะ", "เ", "ล"]


def test_combining_marks_belong_to_words_and_wide_letters_are_normalised() -> None:
    assert words("छोटी कविता। ABC") == ["छोटी", "कविता", "abc"]


def test_please_does_not_make_another_instruction() -> None:
    assert match_in(["Write a poem about the sea."], "Please write a poem about the sea") == (0, pytest.approx(11 / 13))


def test_another_number_makes_another_instruction() -> None:
    assert match_in(["What is 12 plus 30?"], "What is 12 plus 31?") is None
    long = "Tom has {} apples and buys 3 more at the shop. How many apples does Tom have now, all in all?"
    assert match_in([long.format(5)], long.format(6)) is None
    # An additional number is only an additional word.
    assert match_in(["How do I reverse a list in Python?"], "How do I reverse a list in Python 3?") is not None


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("How do I sort a long list of ten thousand names by their last letters in {} without a library?", "C C++ C#"),
        ("def f(x): return {}  # explain what this function does in one line", "x+1 x-1 x*1"),
        ("Tell me what the result of {} is, and explain every single step on the way to it.", "8/2 8−2 8×2"),
    ],
)
def test_another_symbol_makes_another_instruction(text: str, forms: str) -> None:
    texts = [text.format(form) for form in forms.split()]
    for number, each in enumerate(texts):
        assert match_in(texts[:number], each) is None
        assert match_in(texts, each) == (number, 1.0)


def test_symbols_of_markup_dates_and_one_text_only_are_words_like_others() -> None:
    plain = "List three facts on the town of Foxley, founded on {}, and name your sources for each of them"
    assert jaccard(plain.format("2024-07-26"), plain.format("2024/07/26")) > 0.5
    assert match_in([plain.format("Sunday")], f"* **{plain.format('Sunday')}**") is not None
    languages = "I use {} to write fast programs for my old computer, which has little memory."
    assert match_in([languages.format("C++ and C")], languages.format("C++")) is not None


def test_the_default_threshold_classifies_most_handwritten_pairs() -> None:
    assert sum(jaccard(*pair) >= 0.8 for pair in similar_texts.SAME) == 23
    assert sum(jaccard(*pair) >= 0.8 for pair in similar_texts.SIMILAR) == 2
    assert (len(similar_texts.SAME), len(similar_texts.SIMILAR)) == (25, 49)


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9])
def test_the_index_finds_the_same_as_comparing_all_pairs(threshold: float) -> None:
    texts = [text for pair in similar_texts.SAME + similar_texts.SIMILAR for text in pair]
    index = LexicalIndex(threshold)
    for key, text in enumerate(texts):
        near = {other: jaccard(text, texts[other]) for other in range(key)}
        expected = {other: value for other, value in near.items() if value >= threshold}
        assert dict(index.matches(text)) == expected
        best = max(expected, key=lambda other: expected[other], default=None)
        assert index.find(text) == (None if best is None else (best, expected[best]))
        index.add(key, text)


def test_the_first_of_equals_is_found_whatever_its_key() -> None:
    index = LexicalIndex()
    for key in (9, 4):
        index.add(key, "Name three rivers in France.")
    assert index.find("name three rivers in france") == (9, 1.0)
    assert len(index) == 2


def test_one_signature_serves_find_and_add() -> None:
    index = LexicalIndex()
    signature = index.signature("Name three rivers in France.")
    assert index.find(signature) is None
    index.add(7, signature)
    assert index.find(signature) == index.find("Name three rivers in France!") == (7, 1.0)


def test_a_text_without_words_equals_only_itself() -> None:
    assert match_in(["...", "?"], "?") == (1, 1.0)
    assert match_in(["...", ""], "?") is None
    assert match_in([""], "") == (0, 1.0)


def test_a_lone_surrogate_is_not_a_word() -> None:
    assert match_in(["\ud800 good day to you"], "good day to you") == (0, 1.0)
    assert match_in(["\ud800"], "good day to you") is None


def test_rows_beyond_the_initial_capacity_are_found() -> None:
    index = LexicalIndex()
    for key in range(1500):
        index.add(key, f"row number {key}")
    assert index.find("Row number 3") == (3, 1.0)
    assert index.find("row number 1499") == (1499, 1.0)


@given(FEW_WORDS, FEW_WORDS)
def test_similarity_is_symmetric_and_between_0_and_1(one: str, other: str) -> None:
    assert jaccard(one, other) == jaccard(other, one)
    assert 0 <= jaccard(one, other) <= 1
    assert jaccard(one, one) == 1


@given(st.lists(FEW_WORDS, max_size=15))
def test_an_index_rebuilt_from_its_rows_finds_the_same(texts: list[str]) -> None:
    index, kept = LexicalIndex(), []
    for key, text in enumerate(texts):
        if index.find(text) is None:
            index.add(key, text)
            kept.append(key)
    rebuilt = LexicalIndex()
    for key in kept:
        rebuilt.add(key, texts[key])
    assert [rebuilt.find(text) for text in texts] == [index.find(text) for text in texts]
