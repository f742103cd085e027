import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.curation.duplicates import clusters
from mlx_suite.curation.duplicates.clusters import near_duplicate_clusters
from mlx_suite.curation.duplicates.lexical import similarity
from mlx_suite.curation.duplicates.words import words
from tests.curation.duplicates import similar_texts

TEXTS = st.lists(st.lists(st.sampled_from("a b c d e f".split()), min_size=1, max_size=7).map(" ".join), max_size=12)


def test_near_duplicates_share_a_number_counted_by_first_rows() -> None:
    texts = [
        "Write a poem about the sea.",
        "What is 12 plus 30?",
        "write a poem, about the SEA",
        "What is 12 plus 31?",
        "Please write a poem about the sea",
    ]
    assert near_duplicate_clusters(texts) == [0, 1, 0, 2, 0]


def test_two_rows_meet_in_a_third_that_comes_last() -> None:
    first = "please tell me how to bake good bread at home"
    last = "tell me how to bake good bread at home"
    middle = "tell me how to bake good bread at home today"
    far = near_duplicate_clusters([first, middle], threshold=0.85)
    assert far == [0, 1]
    assert near_duplicate_clusters([first, middle, last], threshold=0.85) == [0, 0, 0]


def test_embeddings_join_rows_of_other_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "BLOCK", 2)
    texts = ["one", "two", "three", "four", "five"]
    vectors = np.array([[1, 0], [0, 1], [2, 0.1], [-1, 0], [0.1, 3]], np.float16)
    assert near_duplicate_clusters(texts, vectors, cosine=0.95) == [0, 1, 0, 2, 1]
    assert near_duplicate_clusters(texts, vectors) == [0, 1, 2, 3, 4]


def connected(texts: list[str], threshold: float) -> list[int]:
    """The same by comparing all pairs."""
    taken = [" ".join(words(text)) for text in texts]
    found = list(range(len(texts)))
    for row in range(len(texts)):
        for other in range(row):
            if similarity(taken[row], taken[other]) >= threshold:
                one, two = sorted((found[row], found[other]))
                found = [one if number == two else number for number in found]
    numbers: dict[int, int] = {}
    return [numbers.setdefault(number, len(numbers)) for number in found]


def test_clusters_are_the_connected_rows() -> None:
    texts = [text for pair in similar_texts.SIMILAR + similar_texts.SAME for text in pair]
    for threshold in (0.6, 0.7, 0.8, 0.9):
        assert near_duplicate_clusters(texts, threshold=threshold) == connected(texts, threshold)


@given(TEXTS)
def test_rows_share_a_cluster_only_if_they_are_connected(texts: list[str]) -> None:
    # The other way round a pair in two hundred may be missed, which hypothesis would find.
    found, expected = near_duplicate_clusters(texts, threshold=0.7), connected(texts, 0.7)
    for row in range(len(texts)):
        assert all(expected[row] == expected[other] for other in range(row) if found[row] == found[other])
