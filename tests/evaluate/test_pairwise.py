"""Pairs judged in both orders: wins, ties and unparsable replies."""

import math

import pytest

from mlx_suite.evaluate.pairwise import Matchup, judge_pairs, match_answers, parse_verdict
from tests.evaluate.judges import WeighingJudge, WritingJudge, asked


def pairs(count: int = 4) -> list[Matchup]:
    """Pairs in which A's response is twice as long for even numbers, and B's for odd ones."""
    return [
        Matchup(a=asked(f"q{i}", "a" * (20 if i % 2 == 0 else 10)), b=asked(f"q{i}", "b" * (10 if i % 2 == 0 else 20)))
        for i in range(count)
    ]


def prefers(which: str) -> WeighingJudge:
    return WeighingJudge(lambda first, second: (math.log(0.8), math.log(0.2)) if which in first else (-2.0, -0.1))


def test_the_same_winner_in_both_positions_is_a_win() -> None:
    report = judge_pairs(prefers("a"), pairs())
    assert [row.outcome for row in report.rows] == ["A"] * 4
    assert (report.win_rate, report.first_place) == (1.0, 0.5)
    assert judge_pairs(prefers("b"), pairs()).win_rate == 0.0


def test_a_judge_that_always_prefers_the_first_position_gives_only_ties() -> None:
    report = judge_pairs(WeighingJudge(lambda first, second: (-0.1, -2.0)), pairs())
    assert report.counts == {"inconsistent": 4}
    assert (report.win_rate, report.first_place, report.interval) == (0.5, 1.0, (0.5, 0.5))
    assert report.controlled == pytest.approx(0.5)


def test_an_undecided_judge_gives_only_ties() -> None:
    report = judge_pairs(WeighingJudge(lambda first, second: (-1.0, -1.0)), pairs())
    assert report.counts == {"inconsistent": 4}
    assert [row.probability for row in report.rows] == [0.5] * 4


def test_the_probability_of_a_is_the_mean_of_both_orders() -> None:
    def weigh(first: str, second: str) -> tuple[float, float]:
        return (math.log(0.6), math.log(0.2)) if "a" in first else (math.log(0.4), math.log(0.4))

    [row] = judge_pairs(WeighingJudge(weigh), pairs(1)).rows
    assert row.probability == pytest.approx((0.75 + 0.5) / 2)


def test_length_control_exposes_a_judge_of_length_alone() -> None:
    longer = WeighingJudge(lambda first, second: (-0.1, -2.0) if len(first) > len(second) else (-2.0, -0.1))
    many = [*pairs(40)[::2]] * 4 + [*pairs(40)[1::2]]
    report = judge_pairs(longer, many)
    assert report.win_rate == 0.8
    assert report.controlled == pytest.approx(0.5, abs=0.06)
    assert report.letters == (18, 12)


def test_an_unparsable_reply_is_not_a_tie() -> None:
    def reply(text: str) -> str:
        return "A" if "### Answer A\naaaa" in text else "Both have their merits." if "q1" in text else "B"

    report = judge_pairs(WritingJudge(reply), pairs(), mode="text")
    assert [row.outcome for row in report.rows] == ["A", "unread", "A", "A"]
    assert report.win_rate == 1.0
    assert report.bounds == (0.75, 1.0)


def test_a_pair_that_does_not_fit_is_unread() -> None:
    report = judge_pairs(WeighingJudge(lambda first, second: None), pairs(2))
    assert report.counts == {"unread": 2}
    assert (report.win_rate, report.controlled, report.first_place) == (None, None, None)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("A", "first"),
        ("b.", "second"),
        ("**B**", "second"),
        ("Answer A", "first"),
        ("B is better.", "second"),
        ("[[A]]", "first"),
        ("A says more.\n\nFinal verdict: [[B]]", "second"),
        ("Verdict: A", "first"),
        ("The better answer is B.", "second"),
        ("Winner: A\nA gives the number.", "first"),
        ("tie", "neither"),
        ("[[C]]", "neither"),
        ("", None),
        ("A or B", None),
        ("A bird in the hand", None),
        ("A\nVerdict: B", None),
        ("[[A]] [[B]]", None),
        ("AB", None),
    ],
)
def test_a_verdict_is_a_letter_alone_or_after_a_keyword(reply: str, verdict: str | None) -> None:
    assert parse_verdict(reply) == verdict


def test_responses_are_matched_by_question_and_not_by_position() -> None:
    a = [asked("x", "1"), asked("y", "2"), asked("x", "3"), asked("z", "4")]
    b = [asked("y", "5"), asked("x", "6"), asked("x", "7"), asked("w", "8"), asked("w", "9")]
    matched = match_answers(a, b)
    assert [(pair.a.answer, pair.b.answer) for pair in matched.pairs] == [("1", "6"), ("2", "5"), ("3", "7")]
    assert (matched.only_a, matched.only_b) == (1, 2)
