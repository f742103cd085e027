"""Parsing and evaluating conditions, and error messages for invalid ones."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.curation.filter.conditions import EQUAL, ORDERED, TEXTUAL, Condition, bind, parse_condition
from mlx_suite.runtime.errors import UserError
from tests.magpie.rows import Row, conversation, row

ROWS: list[Row] = [
    row("one", "1 " * 60, tags={"difficulty": "easy", "category": "Math"}, scores={"ifd": 0.4}, answer_tokens=120),
    row("two", "2 " * 40, tags={"difficulty": "hard", "category": "Coding & Debugging"}, scores={"ifd": 1.4}),
    row("three:", "Sorry, no.", tags={"difficulty": "medium", "category": "Math"}, steer={"topic": "cats"}),
    conversation("four", "a", "b", "c", tags={"category": "Others"}),
]


def kept(line: str) -> list[str]:
    [test] = bind([parse_condition(line)], ROWS)
    return [name for name, each in zip(("one", "two", "three", "four"), ROWS, strict=True) if test.passes(each)]


def problems(*lines: str) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        bind([parse_condition(line) for line in lines], ROWS)
    return caught.value.details


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("difficulty >= medium", ["two", "three"]),
        ("difficulty<Hard", ["one", "three"]),
        ("difficulty = easy", ["one"]),
        ("difficulty != easy", ["two", "three"]),
        ("category in Math, Others", ["one", "three", "four"]),
        ("category not in math", ["two", "four"]),
        ("category in 'Coding & Debugging'", ["two"]),
        ("ifd < 1", ["one"]),
        ("ifd >= 0.4", ["one", "two"]),
        ("ifd in 0.4, 1.5", ["one"]),
        ("answer_tokens > 1e2", ["one"]),
        ("answer-words >= 40", ["one", "two"]),
        ("turns = 2", ["four"]),
        ("answer contains SORRY", ["three"]),
        ("answer not contains sorry", ["one", "two", "four"]),
        ("instruction matches '^t'", ["two", "three"]),
        ("instruction not matches ':$'", ["one", "two", "four"]),
        ("steer.topic = cats", ["three"]),
    ],
)
def test_a_condition_keeps_the_rows_that_meet_it(line: str, rows: list[str]) -> None:
    assert kept(line) == rows


def test_a_row_without_the_field_neither_passes_nor_fails() -> None:
    [test] = bind([parse_condition("difficulty != easy")], ROWS)
    assert [test.passes(each) for each in ROWS] == [False, True, True, None]


def test_a_label_that_is_not_on_the_scale_cannot_be_compared() -> None:
    rows = [row("one", tags={"difficulty": "easy"}), row("two", tags={"difficulty": "tricky"})]
    [test] = bind([parse_condition("difficulty >= easy")], rows)
    assert [test.passes(each) for each in rows] == [True, None]


def test_all_problems_are_listed_with_suggestions() -> None:
    assert problems(
        "input_quality >= good",
        "dificulty >= easy",
        "difficulty >= harder",
        "category in Maths",
        "category >= Math",
        "ifd < much",
        "ifd contains 1",
        "answer matches (",
        "answer = 1",
        "reward > -12",
    ) == (
        "no row has input_quality: add it with `mlx-suite magpie tag DATA MODEL`",
        "no row has dificulty: did you mean difficulty?",
        "difficulty >= harder: no label is 'harder'; did you mean 'hard'?",
        "category in Maths: no label is 'Maths'; did you mean 'Math'?",
        "category >= Math: the labels of category have no order; use =, in or contains",
        "ifd < much: ifd is a number and 'much' is not",
        "ifd contains 1: ifd is not a text; compare it with < or >=",
        "answer matches (: not a regular expression (missing ), unterminated subpattern at position 0)",
        "answer = 1: no row's text is exactly '1'; use contains to search for part of a text",
        "no row has reward: add it with `mlx-suite magpie tag DATA MODEL --scores reward` and a reward model",
    )


def test_all_fields_are_listed_for_an_unknown_one_without_a_similar_name() -> None:
    [problem] = problems("zzz = 1")
    assert problem.startswith("no row has zzz: the fields are answer, answer_chars, ") and "steer.topic" in problem


@pytest.mark.parametrize(
    "line", ["", "difficulty", "difficulty >=", "in Math", ">= good", "difficulty in", "categoryin Math", "a in x,,y"]
)
def test_a_line_that_is_not_a_condition_is_refused_with_an_example(line: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_condition(line)
    assert repr(line) in caught.value.what
    assert caught.value.fix.startswith("write FIELD OPERATOR VALUE, for example")


NAMES = st.from_regex(r"[a-z_][a-z0-9_.]{0,12}", fullmatch=True)
VALUES = st.text(min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(NAMES, st.sampled_from((*ORDERED, *EQUAL, *TEXTUAL)), st.lists(VALUES, min_size=1, max_size=3))
def test_a_condition_survives_formatting_and_parsing(name: str, operator: str, values: list[str]) -> None:
    several = operator in ("in", "not in")
    condition = Condition(field=name, operator=operator, values=tuple(values if several else values[:1]))
    assert parse_condition(str(condition)) == condition


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_either_a_condition_or_refused(text: str) -> None:
    try:
        condition = parse_condition(text)
    except UserError:
        return
    assert condition.field and all(condition.values)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(("very easy", "easy", "medium", "hard", "very hard", None)), min_size=1), st.data())
def test_at_least_and_below_partition_the_rows_with_a_label(labels: list[Any], data: Any) -> None:
    rows = [row("q", tags={} if label is None else {"difficulty": label}) for label in labels]
    bound = data.draw(st.sampled_from(("very easy", "easy", "medium", "hard", "very hard")))
    if not any(labels):
        return
    tests = bind([parse_condition(f"difficulty >= {bound}"), parse_condition(f"difficulty < {bound}")], rows)
    for each in rows:
        results = [test.passes(each) for test in tests]
        assert sorted(map(str, results)) == (["False", "True"] if each["tags"] else ["None", "None"])
