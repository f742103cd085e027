"""Answers are compared by their words; guessing is measured beside."""

import pytest

from mlx_suite_apps.lab.people import LabQuestion
from mlx_suite_apps.lab.scores import judge, majority_baseline, prompt_of


@pytest.mark.parametrize(
    ("truth", "answer", "right", "first"),
    [
        ("a baker", " a baker", True, True),
        ("a baker", " baker.", True, True),
        ("a baker", " a baker\n\nQuestion: Who", True, True),
        ("Ada Pike", " Ada Finch", False, True),
        ("1962", " 1971", False, False),
        ("1962", "", False, False),
        ("old bridge", " the old bridge", True, True),
        ("old bridge", " old bridge in Oakham", False, True),
    ],
)
def test_an_answer_is_judged_by_its_first_line(truth: str, answer: str, right: bool, first: bool) -> None:
    assert judge(truth, answer) == (right, first)


def test_a_completion_may_go_on_after_the_truth() -> None:
    assert judge("Ada Pike", " Ada Pike. Ada has a cat.", continues=True) == (True, True)
    assert judge("a baker", " a baker and", continues=True) == (True, True)
    assert judge("a baker", " a barber and", continues=True) == (False, False)


def test_a_question_is_asked_after_its_text() -> None:
    question = LabQuestion(question="When?", answer="1962", relation="birth_year", group="asked")
    assert prompt_of(question) == "Question: When?\nAnswer:"
    opened = LabQuestion(question="When?", answer="1962", relation="birth_year", group="open book", text="In 1962.")
    assert prompt_of(opened) == "In 1962.\n\nQuestion: When?\nAnswer:"


def test_the_majority_baseline_answers_every_question_of_a_kind_alike() -> None:
    def of(answer: str, relation: str, group: str) -> LabQuestion:
        return LabQuestion(question="?", answer=answer, relation=relation, group=group)

    questions = [
        *(of("a cat", "pet", "asked") for _ in range(3)),
        of("a dog", "pet", "other people"),
        of("a cat", "pet", "other people"),
        of("1962", "birth_year", "other people"),
    ]
    assert majority_baseline(questions) == {"asked": 1.0, "other people": 2 / 3}
