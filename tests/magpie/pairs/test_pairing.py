"""Which responses become a pair: complete and distinct ones that differ by a margin, but not because of length."""

from collections.abc import Callable, Mapping, Sequence
from math import exp, log, tanh

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.magpie.pairs.answers import Answer
from mlx_suite.magpie.pairs.pairing import Candidate, Paired, PreferencePair, balanced, fit_lengths, pair_answers

Score = Callable[[int, float], float]
"""Score of a response from its number of characters and its quality."""


def answer(row: int, number: int, text: str, flaw: str | None = None) -> Answer:
    return Answer(row=row, number=number, text=text, tokens=len(text), flaw=flaw)


def of_one_row(*answers: Answer, scores: Sequence[float | None], margin: float = 0.5) -> Paired:
    by_answer = {(each.row, each.number): score for each, score in zip(answers, scores, strict=True)}
    return pair_answers({answers[0].row: answers}, by_answer, margin)


def sampled(score: Score, rows: int = 200, margin: float = 0.5) -> Paired:
    """Pairs from five responses per instruction, whose lengths vary within and between instructions."""
    rng = np.random.default_rng(0)
    answers: dict[int, list[Answer]] = {}
    scores: dict[tuple[int, int], float | None] = {}
    for row in range(rows):
        usual = rng.normal(4.5, 0.8)
        answers[row] = []
        for number in range(5):
            text = f"{number}{row:03}".ljust(int(exp(rng.normal(usual, 0.6))) + 5, "x")
            answers[row].append(answer(row, number, text))
            scores[row, number] = score(len(text), float(rng.normal()))
    return pair_answers(answers, scores, margin)


def test_the_best_and_the_worst_complete_response_are_paired() -> None:
    paired = of_one_row(
        answer(7, 0, "so so"),
        answer(7, 1, "best of all, but cut", flaw="limit"),
        answer(7, 2, "right"),
        answer(7, 3, "wrong"),
        scores=(2.0, 4.0, 3.0, 1.0),
    )
    [pair] = paired.pairs
    assert (pair.row, pair.chosen.answer.text, pair.rejected.answer.text) == (7, "right", "wrong")
    assert (pair.chosen.score, pair.rejected.score, pair.margin) == (3.0, 1.0, 2.0)
    assert paired.refused == {}


@pytest.mark.parametrize(
    ("texts", "flaws", "scores", "reason"),
    [
        (("a", "b", "c"), ("limit", "stop", None), (1.0, 2.0, 3.0), "incomplete"),
        (("Yes.", "yes. ", "YES."), (None, None, None), (1.0, 2.0, 3.0), "identical"),
        (("a", "b", "c"), (None, None, None), (1.0, 1.2, 1.4), "tie"),
        (("a", "b", "c"), (None, None, None), (1.0, 1.0, 1.0), "tie"),
        (("a", "b", "c"), (None, None, None), (None, 1.0, None), "unscored"),
    ],
)
def test_a_row_without_a_pair_has_a_reason(
    texts: Sequence[str], flaws: Sequence[str | None], scores: Sequence[float | None], reason: str
) -> None:
    answers = [answer(0, i, text, flaw) for i, (text, flaw) in enumerate(zip(texts, flaws, strict=True))]
    paired = of_one_row(*answers, scores=scores)
    assert (paired.pairs, paired.refused) == ((), {0: reason})


def test_the_margin_is_inclusive() -> None:
    answers = (answer(0, 0, "aa"), answer(0, 1, "bb"))
    assert len(of_one_row(*answers, scores=(1.0, 1.5), margin=0.5).pairs) == 1
    assert of_one_row(*answers, scores=(1.0, 1.5), margin=0.51).refused == {0: "tie"}


def test_the_first_of_identical_responses_is_used() -> None:
    paired = of_one_row(
        answer(0, 0, "No."), answer(0, 1, "Yes."), answer(0, 2, "no."), answer(0, 3, "Maybe"), scores=(0, 3, 0, 3)
    )
    [pair] = paired.pairs
    assert (pair.chosen.answer.number, pair.rejected.answer.number) == (1, 0)


@pytest.mark.parametrize(
    "score",
    [
        lambda letters, quality: float(letters),
        lambda letters, quality: -float(letters),
        lambda letters, quality: log(letters),
        lambda letters, quality: letters**2 / 100,
        lambda letters, quality: 4.0 * (letters > 100),
        lambda letters, quality: 4 * tanh(letters / 80),
        lambda letters, quality: letters + 5 * quality,
    ],
    ids=["linear", "short", "log", "square", "step", "saturating", "nearly"],
)
@pytest.mark.parametrize("rows", [20, 200])
def test_a_scorer_of_length_alone_is_left_with_one_pair_at_most(score: Score, rows: int) -> None:
    paired = sampled(score, rows)
    assert len(paired.pairs) <= 1
    assert len(paired.pairs) + len(paired.refused) == rows
    assert set(paired.refused.values()) <= {"length", "tie"}


def test_a_scorer_biased_towards_length_still_gives_pairs_for_quality() -> None:
    paired = sampled(lambda letters, quality: quality + log(letters))
    assert len(paired.pairs) > 190
    longer = sum(pair.log_length_ratio > 0 for pair in paired.pairs)
    assert 0.4 < longer / len(paired.pairs) < 0.6
    assert paired.fit.explained is not None
    assert 0.2 < paired.fit.explained < 0.4


def test_an_unbiased_scorer_loses_hardly_any_pairs() -> None:
    paired = sampled(lambda letters, quality: quality)
    assert len(paired.pairs) > 190
    assert paired.fit.explained is not None
    assert paired.fit.explained < 0.03


def test_scores_are_not_adjusted_with_too_few_responses() -> None:
    scores, lengths = [[1.0, 2.0], [5.0, 3.0]], [[10, 20], [20, 10]]
    fit = fit_lengths(scores, lengths)
    assert fit.adjusted == ((1.0, 2.0), (5.0, 3.0))
    assert fit.explained is None
    assert fit_lengths([], []).adjusted == ()
    assert fit_lengths([[2.0]], [[7]]).adjusted == ((2.0,),)


def test_a_linear_effect_of_log_length_is_removed() -> None:
    lengths = [[2 ** (1 + (row + k) % 6) for k in range(4)] for row in range(20)]
    scores = [[10.0 * row + 3 * log(length) for length in each] for row, each in enumerate(lengths)]
    fit = fit_lengths(scores, lengths)
    assert fit.explained == pytest.approx(1.0, abs=1e-3)
    for adjusted in fit.adjusted:
        assert max(adjusted) - min(adjusted) < 0.1


def pairs_of(ratios: Mapping[int, float]) -> list[PreferencePair]:
    def candidate(row: int, letters: int) -> Candidate:
        return Candidate(answer=answer(row, 0, "x" * letters), score=0.0, adjusted=0.0)

    return [
        PreferencePair(row=row, chosen=candidate(row, round(1000 * ratio)), rejected=candidate(row, 1000))
        for row, ratio in ratios.items()
    ]


def test_pairs_with_the_largest_length_ratio_are_dropped_first() -> None:
    kept = balanced(pairs_of({0: 4.0, 1: 1.5, 2: 0.8, 3: 3.0, 4: 0.5, 5: 2.0}))
    assert [pair.row for pair in kept] == [1, 2, 3, 4, 5]


@given(st.lists(st.floats(0.1, 10.0), max_size=40))
def test_kept_pairs_are_balanced_and_only_one_side_is_dropped(ratios: list[float]) -> None:
    pairs = pairs_of(dict(enumerate(ratios)))
    kept = balanced(pairs)
    total, squares = sum(pair.log_length_ratio for pair in kept), sum(pair.log_length_ratio**2 for pair in kept)
    assert total**2 <= squares * (1 + 1e-6) + 1e-12
    dropped = [pair.log_length_ratio for pair in pairs if pair not in kept]
    assert all(each > 0 for each in dropped) or all(each < 0 for each in dropped)
