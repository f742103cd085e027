"""Exact checks of responses: right, wrong or unknown."""

import pytest

from mlx_suite.evaluate.agreement import known_pairs, pair_agreement, score_agreement
from mlx_suite.evaluate.exact import check_answers, normalised
from mlx_suite.evaluate.pairwise import Judged
from mlx_suite.evaluate.scoring import Scored
from mlx_suite.microworld import Verdict, check, make_world
from tests.evaluate.judges import asked

ROWS = [
    asked("Add 6 and 1.", "The sum of 6 and 1 is 7."),
    asked("Add 6 and 1.", "The sum of 6 and 1 is 8."),
    asked("Why is the sky blue?", "Scattering."),
]


def test_the_checker_decides_only_instructions_of_the_microworld() -> None:
    report = check_answers(ROWS)
    assert [row.verdict for row in report.rows] == [Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN]
    assert (report.known, report.share) == (2, 0.5)
    assert report.by("category") == {"Math": (1, 2)}
    assert report.by("task") == {"add": (1, 2)}


def test_a_response_is_right_if_it_equals_its_reference_after_normalisation() -> None:
    rows = [asked("q", " Paris. ", "paris"), asked("q", "Lyon", "Paris"), asked("q", "Paris"), asked("q", "", "Paris")]
    report = check_answers(rows, "reference")
    assert [row.verdict.value for row in report.rows] == ["right", "wrong", "unknown", "wrong"]
    assert report.share == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("“Paris.”", "PARIS", True),
        ("a  b\nc", "a b c", True),
        ("ﬁne", "fine", True),
        ("3.5", "3.5.", True),
        ("3.5", "35", False),
        ("a b", "ab", False),
        ("-5", "5", False),
        ("C#", "C", False),
    ],
)
def test_normalisation_ignores_case_spacing_quotes_and_the_final_full_stop(one: str, other: str, same: bool) -> None:
    assert (normalised(one) == normalised(other)) is same


def test_without_decided_responses_there_is_no_accuracy() -> None:
    report = check_answers(ROWS[2:])
    assert (report.share, report.interval, report.known) == (None, None, 0)


# ---- agreement


def test_agreement_separates_an_informed_judge_from_a_guessing_one() -> None:
    rows = ROWS[:2] * 15
    knows = score_agreement([Scored(row=row, score=90.0 if "7" in row.answer else 10.0) for row in rows])
    guesses = score_agreement([Scored(row=row, score=70.0 + i % 3) for i, row in enumerate(rows)])
    assert knows is not None and guesses is not None
    assert (knows.rows, knows.right, knows.auc, knows.accuracy, knows.majority) == (30, 15, 1.0, 1.0, 0.5)
    assert knows.verdict == "separates right from wrong"
    assert guesses.accuracy == 0.5
    assert guesses.verdict == "no better than chance: do not rely on its scores"


def test_without_ground_truth_there_is_no_agreement() -> None:
    assert score_agreement([Scored(row=ROWS[2], score=5.0), Scored(row=ROWS[0], score=None)]) is None
    assert pair_agreement([]) is None


def test_known_pairs_have_one_right_response_on_alternating_sides() -> None:
    world, pairs = make_world(), known_pairs(20)
    truth = [[check(side.instruction, side.answer, world).value for side in (pair.a, pair.b)] for pair in pairs]
    assert truth == [["right", "wrong"], ["wrong", "right"]] * 10
    assert all(check(pair.a.instruction, pair.a.reference or "", world) is Verdict.RIGHT for pair in pairs)
    assert known_pairs(20) == pairs != known_pairs(20, seed=1)


def test_pair_agreement_counts_wins_of_the_right_response() -> None:
    right_a, right_b = known_pairs(2)
    rows = [
        Judged(pair=right_a, forward="first", backward="second"),
        Judged(pair=right_b, forward="first", backward="second"),
        Judged(pair=right_b, forward="first", backward="first"),
        Judged(pair=right_b, forward=None, backward="first"),
    ]
    found = pair_agreement(rows)
    assert found is not None
    assert (found.pairs, found.agreed, found.inconsistent) == (3, 1, 1)
