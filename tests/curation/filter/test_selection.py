"""Filter steps: the longest rows, samples, duplicates, confidence; the paper's presets."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.curation.dataset import Collection
from mlx_suite.curation.filter.filter import choose
from mlx_suite.curation.filter.selection import keep_first_of_similar_meanings
from mlx_suite.curation.filter.settings import FilterSettings
from mlx_suite.runtime.errors import UserError
from tests.magpie.rows import Row, instructions_of, row


def collection(rows: list[Row]) -> Collection:
    return Collection(name="rows", rows=tuple(rows))


def kept(rows: list[Row], **chosen: Any) -> list[str]:
    filtered = choose(collection(rows), FilterSettings(**chosen))
    return instructions_of([rows[number] for number in filtered.kept])


def reasons(rows: list[Row], **chosen: Any) -> dict[str, str]:
    filtered = choose(collection(rows), FilterSettings(**chosen))
    return {instructions_of([rows[number]])[0]: dropped.reason for number, dropped in filtered.drops.items()}


def tagged(name: str, quality: str, difficulty: str, answered: str = "Yes.", **scores: float) -> Row:
    return row(name, answered, tags={"input_quality": quality, "difficulty": difficulty}, scores=scores)


class TestCounting:
    ROWS = [row("a", "1"), row("b", "1234"), row("c", "12"), row("d", "123")]

    def test_the_longest_rows_are_kept_in_their_order(self) -> None:
        assert kept(self.ROWS, longest=2) == ["b", "d"]
        assert reasons(self.ROWS, longest=2) == {"a": "longest 2", "c": "longest 2"}

    def test_lengths_are_in_tokens_if_every_row_has_token_counts(self) -> None:
        rows = [{**each, "answer_tokens": number} for number, each in enumerate(self.ROWS)]
        assert kept(rows, longest=2) == ["c", "d"]
        assert kept([*rows[:3], self.ROWS[3]], longest=2) == ["b", "d"]

    def test_a_sample_depends_on_the_seed_and_hardly_changes_when_rows_are_added(self) -> None:
        rows = [row(f"q{number}") for number in range(40)]
        first = kept(rows, sample=10)
        assert len(first) == 10 and kept(rows, sample=10) == first and kept(rows, sample=10, seed=1) != first
        assert sorted(kept(rows[::-1], sample=10)) == sorted(first)
        assert len(set(kept([*rows, row("new")], sample=10)) & set(first)) >= 9

    def test_a_quota_per_label_drops_rows_without_the_label(self) -> None:
        rows = [row(f"{label}{n}", tags={"category": label}) for label in ("Math", "Others") for n in range(3)]
        dropped = reasons([*rows, row("bare")], per=("category=2",))
        assert dropped.pop("bare") == "no category"
        assert sorted(dropped.values()) == ["per category=2"] * 2
        assert {name[:-1] for name in dropped} == {"Math", "Others"}

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.sampled_from("abc")), st.integers(1, 4), st.integers(0, 3))
    def test_each_label_keeps_as_many_rows_as_the_quota_allows(self, labels: list[str], count: int, seed: int) -> None:
        rows = [row(f"q{number}", tags={"category": label}) for number, label in enumerate(labels)]
        if not rows:
            return
        left = choose(collection(rows), FilterSettings(per=(f"category={count}",), seed=seed)).kept
        for label in set(labels):
            assert sum(labels[number] == label for number in left) == min(count, labels.count(label))


class TestDuplicates:
    def test_the_first_of_exact_duplicates_is_kept(self) -> None:
        rows = [row("What is 2 + 2?"), row("Why?"), row("what is  2 + 2?", id="c")]
        filtered = choose(collection(rows), FilterSettings(keep_first="exact"))
        assert filtered.kept == (0, 1)
        assert (filtered.drops[2].reason, filtered.drops[2].twin) == ("duplicate", 0)

    def test_a_near_duplicate_of_a_dropped_row_is_kept(self) -> None:
        text = "tell me how to bake good bread at home"
        rows = [row(f"please {text}"), row(f"{text} today"), row(text)]
        assert kept(rows, keep_first="lexical", threshold=0.85) == [f"please {text}", f"{text} today"]
        rows = [rows[0], rows[2], rows[1]]
        assert kept(rows, keep_first="lexical", threshold=0.85) == [f"please {text}", f"{text} today"]

    def test_the_first_of_rows_with_similar_embeddings_is_kept(self) -> None:
        vectors = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], np.float16)
        step = keep_first_of_similar_meanings(vectors, 0.75)
        assert {number: dropped.twin for number, dropped in step.drop([0, 1, 2]).items()} == {1: 0}
        assert {number: dropped.twin for number, dropped in step.drop([1, 2]).items()} == {2: 1}

    def test_cosine_needs_embeddings(self) -> None:
        with pytest.raises(UserError, match="These rows have no embeddings"):
            choose(collection([row("a")]), FilterSettings(keep_first="cosine", threshold=0.9))


class TestConfidence:
    ROWS = [
        row("sure", tags={"difficulty": "easy"}, confidence={"difficulty": 0.9, "category": 0.2}),
        row("unsure", tags={"difficulty": "easy"}, confidence={"difficulty": 0.4, "category": 0.8}),
        row("silent", tags={"difficulty": "easy"}),
    ]

    def test_the_tags_in_conditions_must_be_confident(self) -> None:
        assert kept(self.ROWS, where=("difficulty = easy",), confidence=0.5) == ["sure"]
        assert reasons(self.ROWS, where=("difficulty = easy",), confidence=0.5) == {
            "unsure": "confidence >= 0.5",
            "silent": "no confidence",
        }

    def test_without_conditions_all_tags_must_be_confident(self) -> None:
        assert kept(self.ROWS, confidence=0.3) == ["unsure"]

    def test_rows_without_any_confidence_are_refused(self) -> None:
        with pytest.raises(UserError, match="No row has a confidence"):
            choose(collection([row("a")]), FilterSettings(confidence=0.5))


class TestPresets:
    """Table 5 of the paper, on rows that lie on either side of each of its thresholds."""

    ROWS = [
        tagged("best", "excellent", "hard", "123456", reward=-1, reward_difference=2),
        tagged("easy", "good", "easy", "12345", reward=-11, reward_difference=0.5),
        tagged("very easy", "good", "very easy", "1234", reward=-2, reward_difference=1),
        tagged("average", "average", "medium", "123", reward=-3, reward_difference=1),
        tagged("poor", "poor", "medium", "12", reward=-4, reward_difference=1),
        tagged("medium", "good", "medium", "12", reward=-5, reward_difference=1),
        tagged("bad", "good", "medium", "1", reward=-12, reward_difference=0),
        tagged("BEST", "excellent", "hard", "1234567", reward=-1, reward_difference=2),
    ]

    @pytest.mark.parametrize(
        ("preset", "rows"),
        [
            ("air", ["best", "medium"]),
            ("pro", ["best", "easy", "very easy", "average", "medium"]),
            ("pro-f2", ["best", "easy", "medium"]),
            ("pro-f3", ["best", "easy", "very easy", "average", "poor", "medium"]),
            ("pro-f4", ["best", "easy", "medium"]),
            ("pro-f5", ["best", "easy", "medium"]),
            ("pro-f6", ["best", "easy", "average", "poor", "medium"]),
        ],
    )
    def test_a_preset_keeps_the_rows_of_the_table(self, preset: str, rows: list[str]) -> None:
        assert kept(self.ROWS, preset=preset) == rows

    def test_the_thresholds_and_the_number_of_rows_can_be_changed(self) -> None:
        assert kept(self.ROWS, preset="pro-f3", tau1=-3.5) == ["best", "very easy", "average"]
        assert kept(self.ROWS, preset="air", tau2=2) == []
        assert kept(self.ROWS, preset="pro", longest=2) == ["best", "easy"]

    def test_pro_f6_keeps_equal_halves(self) -> None:
        assert kept(self.ROWS, preset="pro-f6", longest=4) == ["best", "easy", "average"]
        assert reasons(self.ROWS, preset="pro-f6", longest=4) == {
            "bad": "reward > -12",
            "BEST": "duplicate",
            "very easy": "neither difficulty = easy nor difficulty > easy",
            "poor": "longest 2 of difficulty > easy",
            "medium": "longest 2 of difficulty > easy",
        }

    def test_missing_fields_are_listed_with_how_to_add_them(self) -> None:
        with pytest.raises(UserError) as caught:
            choose(collection([row("a", tags={"difficulty": "easy"})]), FilterSettings(preset="pro-f4"))
        assert caught.value.details == (
            "no row has input_quality: add it with `mlx-suite magpie tag DATA MODEL`",
            "no row has reward_difference: add it with `mlx-suite magpie tag DATA MODEL --scores reward_difference`, "
            "a reward model and a base model",
        )

    def test_the_nearest_preset_is_suggested_for_an_unknown_one(self) -> None:
        with pytest.raises(UserError) as caught:
            choose(collection([row("a")]), FilterSettings(preset="pro-f7"))
        assert caught.value.fix.startswith("did you mean pro-f")


def test_all_invalid_settings_are_listed() -> None:
    with pytest.raises(UserError) as caught:
        FilterSettings(longest=0, confidence=2, per=("category", "a=0"), keep_first="cosine", tau1=float("nan"))
    assert [detail.split(" is ")[0] for detail in caught.value.details] == [
        "longest",
        "confidence",
        "threshold",
        "tau1",
        "per",
    ]


def test_an_unused_threshold_is_refused() -> None:
    with pytest.raises(UserError, match="threshold"):
        FilterSettings(keep_first="exact", threshold=0.9)
    assert FilterSettings(keep_first="lexical", threshold=0.9).threshold == 0.9
