"""A corpus in shards of bounded size, counted and checked."""

import pytest

from mlx_suite.data.corpus.documents import CorpusText
from mlx_suite.data.read.records import Problem
from mlx_suite.runtime.errors import UserError
from mlx_suite.synthesize import shards
from mlx_suite.synthesize.shards import CorpusShards
from tests.synthesize.scripted_synthesizer import corpus_of


def test_shards_hold_consecutive_texts() -> None:
    found = list(corpus_of(["a", "b", "c", "d", "e"], size=2).shards())
    assert [(each.start, [text.text for text in each.texts]) for each in found] == [
        (0, ["a", "b"]),
        (2, ["c", "d"]),
        (4, ["e"]),
    ]


def test_a_shard_ends_after_a_number_of_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_CHARACTERS", 10)
    found = list(corpus_of(["12345", "12345", "123456789012", "1"]).shards())
    assert [len(each.texts) for each in found] == [2, 1, 1]


def test_the_same_share_of_the_texts_that_are_not_blank_is_always_chosen() -> None:
    [shard] = corpus_of(["a", " ", "b", "c", "d"]).shards()
    assert len(shard.chosen(0.5, seed=0)) == 2
    assert shard.chosen(0.5, seed=0) == shard.chosen(0.5, seed=0)
    assert shard.chosen(1.0, seed=0) == {0, 2, 3, 4}
    assert len({shard.chosen(0.5, seed=seed) for seed in range(9)}) > 1


def test_unreadable_texts_are_refused_together_or_left_out() -> None:
    texts = [CorpusText(text="a", place="f:1"), Problem("f:2", "no field 'text'"), Problem("f:3", "torn")]
    corpus = CorpusShards(lambda: iter(texts), name="f")
    with pytest.raises(UserError, match="2 texts of the corpus cannot be read") as error:
        corpus.census()
    assert error.value.details == ("f:2: no field 'text'", "f:3: torn")
    census = corpus.census(skip_bad=True)
    assert (census.texts, census.unreadable) == (1, 2)


def test_a_corpus_without_texts_is_refused() -> None:
    with pytest.raises(UserError, match="The corpus has no texts"):
        corpus_of([]).census()


def test_a_corpus_that_became_shorter_or_longer_is_noticed() -> None:
    texts = ["a", "b"]
    corpus = corpus_of(texts, size=1)
    census = corpus.census()
    texts.append("c")
    with pytest.raises(UserError, match="changed"):
        list(corpus.checked(census))
    del texts[1:]
    with pytest.raises(UserError, match="changed"):
        list(corpus.checked(census))


def test_only_the_first_texts_are_used_on_request() -> None:
    corpus = corpus_of(["a", "b", "c"])
    corpus.limit = 2
    assert corpus.census().texts == 2
