"""Degraded instructions and answers: always in the documented way, and never right by chance."""

from random import Random

import pytest

from mlx_suite.microworld import TASKS, Task, identify, make_world
from mlx_suite.microworld.quality import QUALITIES, degrade_answer, degrade_instruction, misspelt, opening_of

WORLD = make_world()
ADD = next(task for task in TASKS if task.name == "add")
SLOTS = {"a": "3", "b": "4"}


def degraded_instructions(task: Task, quality: str, count: int = 40) -> list[str]:
    rng = Random(f"{task.name} {quality}")
    drawn = (
        degrade_instruction(rng, task, task.instruction(task.sample_slots(rng), rng), quality) for _ in range(count)
    )
    return [each for each in drawn if each is not None]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_good_instructions_are_identified_and_degraded_ones_are_not(task: Task) -> None:
    for quality in QUALITIES:
        if (quality, task.name) == ("average", "fix_spelling"):
            continue
        written = degraded_instructions(task, quality)
        assert written, quality
        assert all((identify(each) is not None) == (quality in ("good", "excellent")) for each in written), quality


def test_an_opening_makes_a_good_instruction_excellent() -> None:
    for quality, opened in (("good", False), ("excellent", True)):
        for instruction in degraded_instructions(ADD, quality):
            assert bool(opening_of(ADD, instruction)) == opened
    assert opening_of(ADD, "Let us do some math. Add 3 and 4.") == "Let us do some math. "
    assert opening_of(ADD, "Add 3 and 4.") == ""


def test_an_opening_does_not_reveal_the_quality() -> None:
    for quality in ("very poor", "poor", "average"):
        written = degraded_instructions(ADD, quality, 200)
        opened = sum(opening_of(ADD, each) != "" for each in written)
        assert 0.2 < opened / len(written) < 0.5, quality


def test_a_poor_instruction_lacks_the_value_of_a_slot() -> None:
    found = {degrade_instruction(Random(seed), ADD, "Add 3 and 4.", "poor") for seed in range(20)}
    assert found == {"Add and 4.", "Add 3 and."}


def test_a_very_poor_instruction_is_shuffled_or_cut_off() -> None:
    found = {degrade_instruction(Random(seed), ADD, "What is 3 plus 4?", "very poor") for seed in range(200)}
    assert found >= {"What", "What is", "What is 3"}
    assert {" ".join(sorted(each.split())) for each in found if each and len(each) > 12} == {"3 4? What is plus"}


def test_a_misspelling_keeps_the_first_letter_and_changes_one_position() -> None:
    found = {misspelt(Random(seed), "bear", 1) for seed in range(100)}
    assert found == {"baer", "bera", "bar", "ber", "beear", "beaar"}
    assert misspelt(Random(0), "a cat", 1) is None


def test_the_spelling_task_is_not_degraded_by_misspellings() -> None:
    [task] = [task for task in TASKS if task.name == "fix_spelling"]
    assert degraded_instructions(task, "average") == []


@pytest.mark.parametrize("quality", QUALITIES)
def test_only_an_excellent_answer_is_right(quality: str) -> None:
    rng = Random(0)
    for task in TASKS:
        slots = task.sample_slots(rng)
        answer = degrade_answer(rng, task, slots, task.answer(slots, rng, WORLD), quality, WORLD)
        if answer is not None and quality != "very poor":
            assert task.judge(slots, answer, WORLD) == (quality == "excellent"), (task.name, answer)


def test_answers_are_degraded_in_the_documented_ways() -> None:
    right = "The sum of 3 and 4 is 7."
    drawn = {
        quality: {degrade_answer(Random(seed), ADD, SLOTS, right, quality, WORLD) for seed in range(300)}
        for quality in QUALITIES
    }
    assert drawn["excellent"] == {right}
    assert drawn["average"] == {"The sum of", "The sum of 3", "The sum of 3 and", "The sum of 3 and 4"}
    poor = {each for each in drawn["poor"] if each is not None}
    # About other numbers, or about these numbers and wrong.
    assert all(each.startswith(("The sum of ", "If you add ")) for each in poor)
    assert any(each.startswith("The sum of 3 and 4 is ") for each in poor)
    disorder = " ".join(sorted(right.split()))
    assert any(" ".join(sorted(str(each).split())) == disorder for each in drawn["very poor"])
