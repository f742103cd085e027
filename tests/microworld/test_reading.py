"""Questions about passages: every one can be read back and answered from the facts."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.microworld.passages import Fact, WorldPassage, sample_passage
from mlx_suite.microworld.population import make_population
from mlx_suite.microworld.reading import STYLES, find_answer, questions_about, topics_of, write_pairs

POPULATION = make_population(80, towns=12)
ADA = WorldPassage(
    kind="two people",
    text="Ada Pike was born in Oakham in 1962. Ada is a baker. Max Finch was born in Dunbay in 1971.",
    facts=(
        Fact(subject="Ada Pike", relation="birthplace", value="Oakham"),
        Fact(subject="Ada Pike", relation="birth_year", value="1962"),
        Fact(subject="Ada Pike", relation="job", value="a baker"),
        Fact(subject="Max Finch", relation="birthplace", value="Dunbay"),
        Fact(subject="Max Finch", relation="birth_year", value="1971"),
    ),
)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), style=st.sampled_from(STYLES), count=st.integers(1, 6))
def test_every_written_pair_is_answered_by_its_passage(seed: int, style: str, count: int) -> None:
    rng = Random(seed)
    passage = sample_passage(POPULATION, rng)
    pairs = write_pairs(passage, rng, count, style)
    assert len({pair.question for pair in pairs}) == len(pairs) <= count
    for pair in pairs:
        found = find_answer(pair.question, passage)
        assert found is not None
        assert (pair.answer, pair.reasoning) == (found.answer, found.reasoning)
        if pair.options:
            assert pair.options.count(pair.answer) == 1
        if style in ("free", "choice"):
            assert pair.answer in passage.text and not pair.reasoning
        if style in ("reasoning", "both"):
            assert pair.reasoning and bool(pair.options) is (style == "both")


def test_a_question_about_a_value_is_answered_by_the_value() -> None:
    assert find_answer("What is the job of Ada Pike?", ADA).answer == "a baker"  # type: ignore[union-attr]
    assert find_answer("When was Max Finch born?", ADA).answer == "1971"  # type: ignore[union-attr]


def test_questions_that_need_a_step_are_answered_with_their_reasoning() -> None:
    older = find_answer("Who is older, Ada Pike or Max Finch?", ADA)
    assert older is not None and older.answer == "Ada Pike"
    assert older.reasoning == "Ada Pike was born in 1962 and Max Finch in 1971, and 1962 is before 1971."
    decade = find_answer("In which decade was Max Finch born?", ADA)
    assert decade is not None and decade.answer == "the 1970s"
    before = find_answer("Was Ada Pike born before 1960?", ADA)
    assert before is not None and before.answer == "no"
    assert before.reasoning == "Ada Pike was born in 1962, and 1962 is not before 1960."


@pytest.mark.parametrize(
    "question",
    [
        "What is the job of Max Finch?",
        "What is the job of Eva Lamb?",
        "What is the hobby of Ada Pike?",
        "In which country was Ada Pike born?",
        "What is the capital of France?",
        "",
    ],
)
def test_what_the_passage_does_not_say_has_no_answer(question: str) -> None:
    assert find_answer(question, ADA) is None


def test_the_topics_of_a_question_are_the_facts_that_its_answer_reveals() -> None:
    assert topics_of("What is the job of Ada Pike?") == {("Ada Pike", "job")}
    assert topics_of("Was Ada Pike born before 1960?") == {("Ada Pike", "birth_year")}
    assert topics_of("Who is older, Ada Pike or Max Finch?") == {
        ("Ada Pike", "birth_year"),
        ("Max Finch", "birth_year"),
    }
    assert topics_of("In which country was Ada Pike born?") == {("Ada Pike", "birthplace")}
    assert topics_of("What is the river in Oakham called?") == {("Oakham", "river")}
    assert topics_of("How are you?") == frozenset()


def test_a_fact_has_several_phrasings_that_all_ask_for_it() -> None:
    fact = ADA.facts[2]
    phrasings = questions_about(fact)
    assert len(set(phrasings)) == 8
    assert all(topics_of(each) == {("Ada Pike", "job")} for each in phrasings)
