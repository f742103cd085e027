"""Clusters of near-duplicates, and splits that share none of them."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.curation.duplicates.lexical import similarity
from mlx_suite.curation.duplicates.words import words
from mlx_suite.curation.export import splits
from mlx_suite.curation.export.splits import near_duplicate_clusters, split_rows
from mlx_suite.runtime.errors import UserError
from tests.curation.duplicates import similar_texts
from tests.magpie.rows import row

TEXTS = st.lists(st.lists(st.sampled_from("a b c d e f".split()), min_size=1, max_size=7).map(" ".join), max_size=12)
SHARES = st.floats(0, 0.45)
CLUSTERS = st.lists(st.integers(0, 12), min_size=3, max_size=60)


def sizes(clusters: list[int], seed: int = 0, **shares: float) -> dict[str, int]:
    rows = [row(f"q{number}") for number in range(len(clusters))]
    return {part: len(numbers) for part, numbers in split_rows(rows, clusters, shares, seed).items()}


def test_rows_without_near_duplicates_are_split_exactly() -> None:
    assert sizes(list(range(100)), valid=0.1, test=0.2) == {"train": 70, "valid": 10, "test": 20}
    assert sizes(list(range(3)), valid=0.1, test=0.1) == {"train": 1, "valid": 1, "test": 1}


def test_a_large_cluster_is_trained_on_and_sizes_are_as_close_as_possible() -> None:
    assert sizes([0] * 80 + list(range(1, 21)), valid=0.1, test=0.1) == {"train": 80, "valid": 10, "test": 10}
    assert sizes([0] * 95 + list(range(1, 6)), valid=0.1, test=0.1) == {"train": 95, "valid": 3, "test": 2}
    assert sizes([0] * 50 + [1] * 49 + [2], valid=0.1, test=0.1) == {"train": 50, "valid": 1, "test": 49}


def test_a_share_of_zero_makes_no_split() -> None:
    assert sizes([0, 1, 2], valid=0.0, test=0.3) == {"train": 2, "test": 1}


def test_fewer_clusters_than_splits_are_refused() -> None:
    with pytest.raises(UserError, match="there are 9, in 2 clusters of near-duplicates"):
        sizes([0] * 8 + [1], valid=0.1, test=0.1)


@settings(max_examples=60, deadline=None)
@given(CLUSTERS, SHARES, SHARES, st.integers(0, 3))
def test_splits_are_disjoint_complete_and_not_empty_and_keep_clusters_intact(
    clusters: list[int], valid: float, test: float, seed: int
) -> None:
    rows = [row(f"q{number}") for number in range(len(clusters))]
    shares = {"valid": valid, "test": test}
    parts = 1 + sum(share > 0 for share in shares.values())
    if len(set(clusters)) < parts:
        return
    result = split_rows(rows, clusters, shares, seed)
    assert sorted(number for numbers in result.values() for number in numbers) == list(range(len(rows)))
    groups = [{clusters[number] for number in numbers} for numbers in result.values()]
    assert all(groups) and len(groups) == parts
    assert sum(map(len, groups)) == len(set(clusters))
    largest = max(Counter(clusters).values())
    for part, share in shares.items():
        assert abs(len(result.get(part, ())) - share * len(rows)) <= 2 * largest


@settings(max_examples=60, deadline=None)
@given(CLUSTERS, st.integers(0, 3), st.randoms())
def test_a_split_does_not_depend_on_the_order_of_rows(clusters: list[int], seed: int, random: object) -> None:
    if len(set(clusters)) < 2:
        return
    rows = [row(f"q{number}") for number in range(len(clusters))]
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    first = split_rows(rows, clusters, {"valid": 0.2}, seed)
    second = split_rows([rows[n] for n in order], [clusters[n] for n in order], {"valid": 0.2}, seed)
    assert {part: sorted(order[n] for n in numbers) for part, numbers in second.items()} == {
        part: list(numbers) for part, numbers in first.items()
    }


def test_another_seed_splits_differently() -> None:
    rows = [row(f"q{number}") for number in range(40)]
    assert split_rows(rows, range(40), {"valid": 0.2}, 0) != split_rows(rows, range(40), {"valid": 0.2}, 1)


# ---- clusters


def test_clusters_are_numbered_by_their_first_rows() -> None:
    texts = [
        "Write a poem about the sea.",
        "What is 12 plus 30?",
        "write a poem, about the SEA",
        "What is 12 plus 31?",
        "Please write a poem about the sea",
    ]
    assert near_duplicate_clusters(texts) == [0, 1, 0, 2, 0]


def test_two_rows_are_joined_by_a_later_third() -> None:
    first = "please tell me how to bake good bread at home"
    last = "tell me how to bake good bread at home"
    middle = "tell me how to bake good bread at home today"
    far = near_duplicate_clusters([first, middle], threshold=0.85)
    assert far == [0, 1]
    assert near_duplicate_clusters([first, middle, last], threshold=0.85) == [0, 0, 0]


def test_embeddings_join_rows_with_other_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "BLOCK", 2)
    texts = ["one", "two", "three", "four", "five"]
    vectors = np.array([[1, 0], [0, 1], [2, 0.1], [-1, 0], [0.1, 3]], np.float16)
    assert near_duplicate_clusters(texts, vectors, cosine=0.95) == [0, 1, 0, 2, 1]
    assert near_duplicate_clusters(texts, vectors) == [0, 1, 2, 3, 4]


def connected(texts: list[str], threshold: float) -> list[int]:
    """Clusters found by comparing all pairs."""
    keys = [" ".join(words(text)) for text in texts]
    labels = list(range(len(texts)))
    for one in range(len(texts)):
        for other in range(one):
            if similarity(keys[one], keys[other]) >= threshold:
                low, high = sorted((labels[one], labels[other]))
                labels = [low if label == high else label for label in labels]
    numbers: dict[int, int] = {}
    return [numbers.setdefault(number, len(numbers)) for number in labels]


def test_clusters_are_connected_components() -> None:
    texts = [text for pair in similar_texts.SIMILAR + similar_texts.SAME for text in pair]
    for threshold in (0.6, 0.7, 0.8, 0.9):
        assert near_duplicate_clusters(texts, threshold=threshold) == connected(texts, threshold)


@given(TEXTS)
def test_rows_of_a_cluster_are_connected(texts: list[str]) -> None:
    # The index may miss one pair in two hundred, so the converse does not hold.
    found, expected = near_duplicate_clusters(texts, threshold=0.7), connected(texts, 0.7)
    for one in range(len(texts)):
        assert all(expected[one] == expected[other] for other in range(one) if found[one] == found[other])
