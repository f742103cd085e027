"""Scores: parsed strictly in text mode, with failures counted, and computed from probabilities in label mode."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.evaluate.prompts import SCORE_LABELS
from mlx_suite.evaluate.scoring import expected_score, parse_score, score_answers
from tests.evaluate.judges import WritingJudge, asked


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("85", 85),
        ("0", 0),
        ("100", 100),
        (" 85.\n", 85),
        ("**85**", 85),
        ("85/100", 85),
        ("85 out of 100", 85),
        ("85 / 100.", 85),
        ("85%", 85),
        ("85 points", 85),
        ("Score: 85", 85),
        ("score = 7", 7),
        ("**Score:** 85/100", 85),
        ("Grade: 60", 60),
        ("My final score is 40.", 40),
        ("The answer misses a point.\n\nScore: 40", 40),
        ("40\n\nThe answer misses 3 of 5 points.", 40),
        ("40\nScore: 40", 40),
    ],
)
def test_a_score_is_a_whole_number_alone_or_after_a_keyword(reply: str, score: float) -> None:
    assert parse_score(reply) == (score, "")


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("", "an empty reply"),
        (" \n ", "an empty reply"),
        ("Good answer!", "no score"),
        ("I would give it 85.", "no score"),
        ("The answer is 42\n85", "no score"),
        ("between 80 and 90", "no score"),
        ("85 90", "no score"),
        ("8/10", "no score"),
        ("101", "101 is not a whole number from 0 to 100"),
        ("-5", "-5 is not a whole number from 0 to 100"),
        ("85.5", "85.5 is not a whole number from 0 to 100"),
        ("007", "007 is not a whole number from 0 to 100"),
        ("90\nScore: 20", "several scores: 90, 20"),
        ("Score: 20\nScore: 30", "several scores: 20, 30"),
        ("Score: 1000", "1000 is not a whole number from 0 to 100"),
        ("８５", "no score"),
    ],
)
def test_anything_else_is_a_failure_with_a_reason(reply: str, problem: str) -> None:
    assert parse_score(reply) == (None, problem)


@given(st.text(max_size=40))
def test_any_reply_parses_to_a_score_or_a_reason(reply: str) -> None:
    score, problem = parse_score(reply)
    assert (score is None) == bool(problem)
    assert score is None or (0 <= score <= 100 and score == int(score))


def rows() -> list:
    return [asked(f"q{i}", f"a{i}", "ref", f"f:{i}") for i in range(4)]


def test_failures_are_listed_and_bound_the_mean() -> None:
    replies = {"a0": "90", "a1": "well…", "a2": "30", "a3": "60/100"}
    judge = WritingJudge(lambda text: next(reply for answer, reply in replies.items() if f"\n{answer}\n" in text))
    told: list[int] = []
    report = score_answers(judge, rows(), tell=lambda: told.append(1))
    assert [row.score for row in report.rows] == [90, None, 30, 60]
    assert [(row.row.place, row.problem, row.reply) for row in report.failures] == [("f:1", "no score", "well…")]
    assert report.mean is not None
    assert (report.mean.mean, report.mean.count) == (60, 3)
    assert report.bounds == (45, 70)
    assert [row.row.place for row in report.lowest(2)] == ["f:2", "f:3"]
    assert len(told) == 4


def test_a_prompt_that_does_not_fit_is_a_failure_and_not_a_zero() -> None:
    report = score_answers(WritingJudge(lambda text: "", reason="context"), rows())
    assert {row.problem for row in report.rows} == {"too long for the judge's context"}
    assert report.mean is None
    assert report.bounds == (0, 100)


def test_the_judge_sees_instruction_reference_and_response_and_no_empty_section() -> None:
    judge = WritingJudge(lambda text: "1")
    score_answers(judge, [asked("Why {answer}?", "Because {instruction}.", "So."), asked("Who?", "Me.")])
    first, second = judge.seen
    assert "### Instruction\nWhy {answer}?\n" in first
    assert "### A right answer, to compare with\nSo.\n" in first
    assert "### The answer to grade\nBecause {instruction}.\n" in first
    assert "right answer, to compare" not in second
    assert "### Instruction\nWho?\n\n### The answer to grade\nMe.\n" in second


def test_the_expected_score_weights_labels_by_probability() -> None:
    log_probs = [-math.inf] * 11
    log_probs[2], log_probs[8] = math.log(0.1), math.log(0.3)  # 20 and 80
    score, mass = expected_score(log_probs)
    assert SCORE_LABELS == ("0", "10", "20", "30", "40", "50", "60", "70", "80", "90", "100")
    assert score == pytest.approx((20 * 0.1 + 80 * 0.3) / 0.4)
    assert mass == pytest.approx(0.4)
