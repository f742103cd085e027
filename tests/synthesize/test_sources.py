"""Long texts are cut at sentence ends, and nothing of them is lost."""

from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.data.corpus.documents import CorpusText
from mlx_suite.synthesize.shards import Shard
from mlx_suite.synthesize.sources import sources_of, split_text


def characters(text: str) -> int:
    return len(text)


def test_a_text_is_cut_after_sentences() -> None:
    text = "One is here. Two is there! Is three? Four."
    assert split_text(text, characters, 28) == ["One is here. Two is there! ", "Is three? Four."]


def test_a_short_text_is_whole() -> None:
    assert split_text("One. Two.", characters, 9) == ["One. Two."]


def test_a_sentence_that_is_too_long_is_cut_between_words_and_a_word_between_characters() -> None:
    assert split_text("one two three", characters, 8) == ["one two ", "three"]
    assert split_text("abcdefghij", characters, 4) == list("abcdefghij")


def test_chinese_sentences_end_without_a_space() -> None:
    assert split_text("你好吗。我很好。再见。", characters, 5) == ["你好吗。", "我很好。", "再见。"]


@given(st.text(alphabet="ab .!\n。", max_size=80), st.integers(4, 20))
def test_parts_joined_are_the_text_and_none_is_too_long(text: str, most: int) -> None:
    parts = split_text(text, characters, most)
    assert "".join(parts) == text
    assert all(len(part) <= most for part in parts)


def test_a_line_of_200_000_words_is_cut_into_parts_that_fit() -> None:
    line = "word " * 200_000
    parts = split_text(line, characters, 1000)
    assert "".join(parts) == line
    assert len(parts) == 1000


def test_only_the_texts_to_convert_are_cut_and_each_other_has_a_reason() -> None:
    texts = tuple(CorpusText(text=text, place="f") for text in ("Long. Text.", "Other. Text.", " ", "<CON> tag"))
    sources = sources_of(
        Shard(number=0, start=10, texts=texts),
        frozenset({10, 13}),
        refusal=lambda text: "holds a tag" if "<CON>" in text else None,
        split=lambda text: split_text(text, characters, 6),
    )
    assert [(each.key, each.text, each.kept_raw) for each in sources] == [
        ("10.0", "Long. ", ""),
        ("10.1", "Text.", ""),
        ("11", "Other. Text.", "not chosen"),
        ("12", " ", "blank"),
        ("13", "<CON> tag", "holds a tag"),
    ]
