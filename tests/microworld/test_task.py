from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.microworld import CATEGORIES, DIFFICULTIES, TASKS, Task, identify, make_world
from mlx_suite.microworld.task import Phrasing, one_of

WORLD = make_world()
each_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def greeting_task(**changes: object) -> Task:
    values: dict[str, object] = {
        "name": "greet",
        "category": "Others",
        "difficulty": "easy",
        "slots": {"animal": ("cat", "owl")},
        "phrasings": ("Greet {animal:a}.",),
        "answering": one_of(lambda slots, world: (f"Hello, {slots['animal']}!",)),
    }
    return Task(**(values | changes))  # type: ignore[arg-type]


def test_a_phrasing_renders_and_parses_an_inflected_word() -> None:
    phrasing = Phrasing.compile("Is {x:a} like two {x:plural}?", {"x": ("fox", "owl")}, ())
    assert phrasing.render({"x": "owl"}) == "Is an owl like two owls?"
    assert phrasing.parse("Is a fox like two foxes?") == {"x": "fox"}


def test_two_values_for_one_slot_do_not_parse() -> None:
    phrasing = Phrasing.compile("Is {x:a} like two {x:plural}?", {"x": ("fox", "owl")}, ())
    assert phrasing.parse("Is a fox like two owls?") is None


def test_a_phrasing_must_use_exactly_its_slots() -> None:
    with pytest.raises(ValueError, match="uses"):
        Phrasing.compile("Is {x} here?", {"x": ("a",), "y": ("b",)}, ())


def test_an_ambiguous_inflection_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be read back"):
        Phrasing.compile("Two {x:plural}.", {"x": ("mouse", "mouse")}, ())


def test_an_opening_may_precede_a_phrasing() -> None:
    task = greeting_task(openings=("Please.",))
    assert task.parse("Please. Greet an owl.") == {"animal": "owl"}
    assert task.parse("Greet an owl.") == {"animal": "owl"}
    assert task.parse("Please Greet an owl.") is None


def test_invalid_slots_do_not_parse() -> None:
    task = greeting_task(valid=lambda slots: slots["animal"] != "owl")
    assert task.parse("Greet an owl.") is None
    assert task.parse("Greet a cat.") == {"animal": "cat"}


def test_an_unknown_category_is_refused() -> None:
    with pytest.raises(ValueError, match="Cooking"):
        greeting_task(category="Cooking")


def test_task_names_are_distinct_and_every_category_has_at_least_four() -> None:
    assert len({task.name for task in TASKS}) == len(TASKS) == 83
    counts = Counter(task.category for task in TASKS)
    assert set(counts) == set(CATEGORIES)
    assert min(counts.values()) >= 4


def test_every_difficulty_occurs() -> None:
    assert {task.difficulty for task in TASKS} == set(DIFFICULTIES)


@each_task
def test_a_task_has_at_least_six_phrasings_and_four_hundred_instructions(task: Task) -> None:
    rng = Random(0)
    slots = {tuple(sorted(task.sample_slots(rng).items())) for _ in range(400)}
    assert len(set(task.phrasings)) == len(task.phrasings) >= 6
    assert len(slots) * len(task.phrasings) * (1 + len(task.openings)) >= 400


@each_task
def test_every_phrasing_parses_back_to_its_own_task_and_slots_only(task: Task) -> None:
    rng = Random(task.name)
    for phrasing in task.compiled:
        for opening in ("", *(f"{opening} " for opening in task.openings[:2])):
            slots = task.sample_slots(rng)
            text = opening + phrasing.render(slots)
            found = [(each.name, each.parse(text)) for each in TASKS if each.parse(text)]
            assert found == [(task.name, slots)]


@each_task
def test_instructions_have_3_to_35_words_and_answers_1_to_35(task: Task) -> None:
    rng = Random(1)
    for _ in range(50):
        slots = task.sample_slots(rng)
        assert 3 <= len(task.instruction(slots, rng).split()) <= 35
        assert 1 <= len(task.answer(slots, rng, WORLD).split()) <= 35


@settings(max_examples=300, deadline=None)
@given(index=st.integers(0, len(TASKS) - 1), seed=st.integers())
def test_a_sampled_instruction_is_identified_with_its_slots(index: int, seed: int) -> None:
    task, rng = TASKS[index], Random(seed)
    slots = task.sample_slots(rng)
    assert identify(task.instruction(slots, rng)) == (task, slots)


@settings(max_examples=300, deadline=None)
@given(index=st.integers(0, len(TASKS) - 1), seed=st.integers())
def test_an_instruction_with_a_changed_word_is_not_identified(index: int, seed: int) -> None:
    task, rng = TASKS[index], Random(seed)
    words = task.instruction(task.sample_slots(rng), rng).split(" ")
    words[rng.randrange(len(words))] = "zebra"
    assert identify(" ".join(words)) is None
