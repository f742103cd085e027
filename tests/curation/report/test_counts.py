"""Lengths, features, tags and samples."""

import pytest

from mlx_suite.curation.report.counts import (
    UNTAGGED,
    common_unit,
    confidences_of,
    counts_of,
    cross_table,
    dimensions_of,
    features_of,
    lengths_of,
    order_of,
    quantiles_of,
    scores_of,
)
from mlx_suite.curation.report.samples import TextBlock, blocks_of, rejected_samples, samples_of
from tests.curation.report.rows import rejected
from tests.magpie.rows import row

COUNTED = [row("A?", instruction_tokens=2, answer_tokens=3, model="m")]


def test_lengths_are_in_tokens_only_if_one_model_counted_them_all() -> None:
    other = [row("A?", instruction_tokens=2, answer_tokens=3, model="another")]

    assert common_unit([COUNTED]) == "tokens"
    assert common_unit([COUNTED, other]) == "words"
    assert common_unit([[*COUNTED, row("B?")]]) == "words"
    assert lengths_of(COUNTED, "tokens") == {"instruction": [2.0], "answer": [3.0]}


def test_a_character_is_a_word_in_scripts_without_spaces() -> None:
    rows = [row("Say it twice.", "Twice, twice."), row("请写诗。", "")]

    assert lengths_of(rows, "words") == {"instruction": [3.0, 3.0], "answer": [2.0]}


def test_quantiles_of_the_numbers_up_to_eleven() -> None:
    quantiles = quantiles_of(list(range(1, 12)))

    assert (quantiles.low, quantiles.median, quantiles.mean, quantiles.high, quantiles.most) == (
        2.0,
        6.0,
        6.0,
        10.0,
        11.0,
    )
    assert quantiles_of([]) is None


def test_features_of_rows_are_counted() -> None:
    turns = [{"role": role, "content": "Hi\nthere"} for role in ("system", "user", "assistant", "user", "assistant")]
    rows = [
        {"messages": turns},
        row("One line\n", "```\n1\n```", raw_instruction="User: One line"),
        {"messages": [{"role": "user", "content": "Hi"}]},
    ]

    features = features_of(rows)

    assert (features.multi_line_instructions, features.multi_line_answers, features.with_code) == (1, 2, 1)
    assert (features.multi_turn, features.with_system, features.without_answer, features.cleaned) == (1, 1, 1, 1)


TAGGED = [
    row("A?", tags={"category": "Math", "difficulty": "hard"}, confidence={"category": 0.9}, scores={"ifd": 1}),
    row("B?", tags={"category": "Math", "difficulty": "easy"}, confidence={"category": 0.4}, scores={"ifd": 2.0}),
    row("C?", tags={"category": "Cooking", "difficulty": "easy"}),
    row("D?"),
]


def test_labels_are_in_the_order_of_their_scale_with_gaps() -> None:
    assert dimensions_of([TAGGED]) == ("category", "difficulty")
    assert order_of("difficulty", [TAGGED]) == ("easy", "medium", "hard", UNTAGGED)
    assert order_of("category", [TAGGED]) == ("Math", "Cooking", UNTAGGED)
    assert counts_of(TAGGED, "difficulty", ("easy", "medium", "hard", UNTAGGED)) == (2, 0, 1, 1)


def test_cross_table_counts_category_by_difficulty() -> None:
    assert cross_table(TAGGED, ("Math", "Cooking"), ("easy", "hard")).counts == ((1, 1), (1, 0))


def test_labels_below_one_half_are_doubtful() -> None:
    [confidence] = confidences_of(TAGGED, ("category", "difficulty"))

    assert (confidence.dimension, confidence.spread.count, confidence.doubtful) == ("category", 2, 1)
    assert confidence.spread.mean == pytest.approx(0.65)
    assert scores_of(TAGGED)["ifd"].mean == 1.5


def test_code_is_separated_from_text() -> None:
    text = "Mend it:\n```python\nx = 1\n\n```\nThen run:\n```\nx"

    assert blocks_of(text) == (
        TextBlock(text="Mend it:", is_code=False),
        TextBlock(text="x = 1\n", is_code=True, language="python"),
        TextBlock(text="Then run:", is_code=False),
        TextBlock(text="x", is_code=True),
    )
    assert blocks_of("Use ``` for code.") == (TextBlock(text="Use ``` for code.", is_code=False),)
    assert blocks_of("") == ()


def test_samples_are_evenly_spaced_and_long_turns_are_cut() -> None:
    rows = [row(f"{number}?", "x" * 2500, id=str(number)) for number in range(10)]

    samples = samples_of(rows, 3)

    assert [sample.id for sample in samples] == ["0", "3", "6"]
    assert samples[0].turns[1].cut == 500
    assert len(samples_of(rows, 99)) == 10
    assert samples_of(rows, 0) == ()


def test_a_few_rejected_rows_of_each_reason_are_shown() -> None:
    lost = [rejected(f"{number}?", "duplicate", "screen", duplicate_of="x-1") for number in range(5)]
    lost.append(rejected("Long", "instruction_limit", "ask"))

    most, other = rejected_samples(lost, [row("The first one?", id="x-1")])

    assert (most.reason, most.stage, most.rows, len(most.shown)) == ("duplicate", "screen", 5, 3)
    assert most.meaning == "the instruction repeats an earlier one"
    assert most.shown[0].marks == (("duplicate of", "x-1"),)
    assert most.shown[0].original == "The first one?"
    assert (other.reason, other.rows) == ("instruction_limit", 1)
