"""Conditions as one types them, what they mean, and what is said of those that mean nothing."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.curation.filter.conditions import EQUAL, ORDERED, TEXTUAL, Condition, bind, parse_condition
from mlx_suite.runtime.errors import UserError
from tests.magpie.rows import Row, row, talk

ROWS: list[Row] = [
    row("one", "1 " * 60, tags={"difficulty": "easy", "category": "Math"}, scores={"ifd": 0.4}, answer_tokens=120),
    row("two", "2 " * 40, tags={"difficulty": "hard", "category": "Coding & Debugging"}, scores={"ifd": 1.4}),
    row("three:", "Sorry, no.", tags={"difficulty": "medium", "category": "Math"}, steer={"topic": "cats"}),
    talk("four", "a", "b", "c", tags={"category": "Others"}),
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
def test_a_condition_keeps_the_rows_for_which_it_holds(line: str, rows: list[str]) -> None:
    assert kept(line) == rows


def test_a_row_without_the_field_says_so_instead_of_passing_or_failing() -> None:
    [test] = bind([parse_condition("difficulty != easy")], ROWS)
    assert [test.passes(each) for each in ROWS] == [False, True, True, None]


def test_a_label_beyond_the_scale_cannot_be_compared() -> None:
    rows = [row("one", tags={"difficulty": "easy"}), row("two", tags={"difficulty": "tricky"})]
    [test] = bind([parse_condition("difficulty >= easy")], rows)
    assert [test.passes(each) for each in rows] == [True, None]


def test_everything_that_is_wrong_is_said_at_once_with_the_nearest_that_is_right() -> None:
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
        "no row has input_quality: `mlx-suite magpie tag DATA MODEL` tags them",
        "no row has dificulty: did you mean difficulty?",
        "difficulty >= harder: there is no 'harder'; did you mean 'hard'?",
        "category in Maths: there is no 'Maths'; did you mean 'Math'?",
        "category >= Math: category has no order; use =, in or contains",
        "ifd < much: ifd is a number, and 'much' is none",
        "ifd contains 1: ifd is no text; compare it with < or >=",
        "answer matches (: no regular expression (missing ), unterminated subpattern at position 0)",
        "answer = 1: no row says '1' and nothing else; `contains` looks for a part of a text",
        "no row has reward: `mlx-suite magpie tag DATA MODEL --scores reward` computes it, with a reward model",
    )


def test_a_field_that_is_like_nothing_is_answered_with_all_there_are() -> None:
    [problem] = problems("zzz = 1")
    assert problem.startswith("no row has zzz: there are answer, answer_chars, ") and "steer.topic" in problem


@pytest.mark.parametrize(
    "line", ["", "difficulty", "difficulty >=", "in Math", ">= good", "difficulty in", "categoryin Math", "a in x,,y"]
)
def test_what_is_no_condition_is_refused_with_an_example(line: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_condition(line)
    assert repr(line) in caught.value.what
    assert caught.value.fix.startswith("write FIELD OPERATOR VALUE, for example")


NAMES = st.from_regex(r"[a-z_][a-z0-9_.]{0,12}", fullmatch=True)
VALUES = st.text(min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(NAMES, st.sampled_from((*ORDERED, *EQUAL, *TEXTUAL)), st.lists(VALUES, min_size=1, max_size=3))
def test_a_condition_reads_as_it_is_written(name: str, operator: str, values: list[str]) -> None:
    several = operator in ("in", "not in")
    condition = Condition(field=name, operator=operator, values=tuple(values if several else values[:1]))
    assert parse_condition(str(condition)) == condition


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        condition = parse_condition(text)
    except UserError:
        return
    assert condition.field and all(condition.values)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(("very easy", "easy", "medium", "hard", "very hard", None)), min_size=1), st.data())
def test_on_a_scale_at_least_and_below_share_out_the_rows_that_have_a_label(labels: list[Any], data: Any) -> None:
    rows = [row("q", tags={} if label is None else {"difficulty": label}) for label in labels]
    bound = data.draw(st.sampled_from(("very easy", "easy", "medium", "hard", "very hard")))
    if not any(labels):
        return
    tests = bind([parse_condition(f"difficulty >= {bound}"), parse_condition(f"difficulty < {bound}")], rows)
    for each in rows:
        verdicts = [test.passes(each) for test in tests]
        assert sorted(map(str, verdicts)) == (["False", "True"] if each["tags"] else ["None", "None"])
