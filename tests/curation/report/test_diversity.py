"""Diversity, distances, embedding map and overlap, on rows with known results."""

import math

import numpy as np
import pytest

from mlx_suite.curation.report.diversity import diversity_of
from mlx_suite.curation.report.embedding_map import POINTS, map_of
from mlx_suite.curation.report.neighbours import (
    UnitVectors,
    cosines,
    jaccards,
    nearest_distances,
    neighbourhoods_of,
    overlap_of,
    sample_rows,
    sizes_for,
)
from tests.magpie.rows import row


def unit(*vectors: tuple[float, ...]) -> UnitVectors:
    rows = np.asarray(vectors, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def measured(texts: list[str], vectors: UnitVectors | None = None, **fields: list[str]) -> dict[str, float]:
    rows = [row(text, tags={name: labels[at] for name, labels in fields.items()}) for at, text in enumerate(texts)]
    return {name: each.mean for name, each in diversity_of(rows, vectors, len(rows)).estimates.items()}


def test_sample_sizes_are_fixed_for_large_enough_datasets() -> None:
    assert sizes_for(20_000) == (100, 500, 2000)
    assert sizes_for(600) == (100, 500)
    assert sizes_for(7) == (7,)
    assert sizes_for(1) == ()


def test_samples_are_deterministic_and_disjoint() -> None:
    samples = sample_rows(25, 10)

    assert [len(each) for each in samples] == [10, 10]
    assert not set(samples[0]) & set(samples[1])
    assert samples == sample_rows(25, 10)
    assert sample_rows(10, 10) == [list(range(10))]
    assert len(sample_rows(1000, 10)) == 5


def test_distinct_n_counts_repeated_words() -> None:
    result = measured(["the cat sat", "the cat ran"])

    assert result["words"] == 3
    assert result["distinct_1"] == pytest.approx(4 / 6)
    assert result["distinct_2"] == pytest.approx(3 / 4)
    assert result["distinct_3"] == 1


def test_duplicates_are_counted_without_their_first_row() -> None:
    long = "Write a short poem about the old bridge over the river in the winter"
    result = measured([f"{long} snow.", f"{long}  SNOW.", f"{long} rain.", "What is 2 + 2?"])

    assert result["exact_repeats"] == 1 / 4
    assert result["near_repeats"] == 2 / 4


def test_category_entropy_is_in_bits() -> None:
    texts = ["a", "b", "c", "d"]

    assert measured(texts, category=["Math", "Math", "Editing", "Others"])["category_entropy"] == pytest.approx(1.5)
    assert measured(texts, category=["Math"] * 4)["category_entropy"] == 0
    assert "category_entropy" not in measured(texts)


def test_the_vendi_score_is_the_number_of_rows_with_nothing_in_common() -> None:
    texts = ["a", "b", "c", "d"]

    assert measured(texts, unit((1, 0), (0, 1), (1, 0), (0, 1)))["vendi_meaning"] == pytest.approx(2)
    assert measured(texts, unit((1, 0), (1, 0), (1, 0), (1, 0)))["vendi_meaning"] == pytest.approx(1)
    assert measured(["a", "b", "a", "b"])["vendi_words"] == pytest.approx(2)
    wide = np.eye(4, 9, dtype=np.float32)
    assert measured(texts, wide)["vendi_meaning"] == pytest.approx(4)


def test_the_spread_is_the_standard_deviation_between_samples() -> None:
    rows = [row(text) for text in ["one", "one two three"] * 2]

    words = diversity_of(rows, None, 2).estimates["words"]
    lengths = [sum(1 if each % 2 == 0 else 3 for each in sample) / 2 for sample in sample_rows(4, 2)]

    assert words.mean == 2
    assert words.spread == pytest.approx(float(np.std(lengths, ddof=1)))
    assert diversity_of(rows, None, 4).estimates["words"].spread is None


def test_a_row_is_never_its_own_neighbour() -> None:
    vectors = unit((1, 0), (1, 1), (0, 1), (0, 1))

    distances = nearest_distances(cosines(vectors))

    near = 1 - 1 / math.sqrt(2)
    np.testing.assert_allclose(distances, [near, near, 0, 0], atol=1e-6)
    assert len(nearest_distances(cosines(vectors[:1]))) == 0


def test_jaccard_similarity_is_over_words_and_pairs() -> None:
    # the, cat, sat, the cat, cat sat; the, cat, ran, the cat, cat ran
    np.testing.assert_allclose(jaccards(["the cat sat", "The cat ran", "?"])[0], [1, 3 / 7, 0], atol=1e-6)


def test_frequent_words_are_counted_like_rare_ones() -> None:
    texts = [f"name the river {number}" for number in range(40)]

    # name, the, river, name the, the river; the number and the pair before it.
    np.testing.assert_allclose(nearest_distances(jaccards(texts)), np.full(40, 1 - 5 / 9), atol=1e-6)


def test_each_row_is_in_one_closest_pair() -> None:
    rows = [row("the cat sat"), row("a dog"), row("the cat ran"), row("a dog")]

    [words] = neighbourhoods_of(rows, None, 4)

    assert (words.kind, words.size) == ("Jaccard", 4)
    assert [(round(pair.distance, 3), pair.first, pair.second) for pair in words.closest] == [
        (0.0, "a dog", "a dog"),
        (0.571, "the cat sat", "the cat ran"),
    ]


def test_the_map_shows_the_two_principal_components() -> None:
    vectors = np.zeros((5, 6), np.float32)
    vectors[:, 4] = [-3, -1, 0, 1, 3]
    vectors[:, 1] = [1, -2, 2, -2, 1]
    vectors[:, 0] = 7

    [embedding_map] = map_of([vectors])

    np.testing.assert_allclose(embedding_map.points[:, 0], [-3, -1, 0, 1, 3], atol=1e-6)
    np.testing.assert_allclose(embedding_map.points[:, 1], [1, -2, 2, -2, 1], atol=1e-6)
    assert embedding_map.explained == pytest.approx((20 / 34, 14 / 34))


def test_two_maps_have_the_same_axes() -> None:
    random = np.random.default_rng(0)
    one = random.standard_normal((30, 8)).astype(np.float32)
    other = np.concatenate([one[:3], random.standard_normal((60, 8))]).astype(np.float32)

    first, second = map_of([one, other])

    np.testing.assert_allclose(first.points[:3], second.points[:3], atol=1e-6)
    assert first.explained == second.explained


def test_a_large_map_shows_evenly_spaced_rows() -> None:
    vectors = np.random.default_rng(0).standard_normal((2 * POINTS, 3)).astype(np.float32)

    [embedding_map] = map_of([vectors])

    assert len(embedding_map.points) == POINTS
    assert embedding_map.chosen[:3] == (0, 2, 4)


def test_identical_embeddings_have_a_map() -> None:
    [embedding_map] = map_of([np.ones((4, 3), np.float32)])

    assert embedding_map.points.shape == (4, 2) and not embedding_map.points.any()
    assert embedding_map.explained == (0.0, 0.0)


def test_overlap_counts_exact_and_near_duplicates() -> None:
    poem = "Write a short poem about the old bridge over the river in the winter"
    one = [row("What is 2 + 2?", "4"), row("Name a colour."), row(f"{poem} snow."), row("Only here.")]
    other = [
        row("what is  2 + 2?", "4"),
        row("What is 2 + 2?", "5"),
        row("Name a colour.", "Red"),
        row(f"{poem} rain."),
    ]

    overlap = overlap_of(one, other)

    assert overlap.exact == (2, 3)
    assert overlap.whole == (1, 1)
    assert overlap.near == (1, 1)
    [pair] = overlap.pairs
    assert (pair.first, pair.second) == (f"{poem} snow.", f"{poem} rain.")
    assert 0.8 <= pair.similarity < 1
