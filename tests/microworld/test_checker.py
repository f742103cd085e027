from random import Random
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.microworld import (
    TASKS,
    Task,
    Verdict,
    check,
    identify,
    make_world,
    sample_example,
)

WORLD = make_world()
RIGHT, WRONG, UNKNOWN = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN

JUDGED = [
    ("Where was Ada Reed born?", "Ada Reed was born in Stonehill.", RIGHT),
    ("Where was Ada Reed born?", "The birthplace of Ada Reed is the town of Stonehill.", RIGHT),
    ("Where was Ada Reed born?", "Ada Reed was born in Oakford.", WRONG),
    ("Where was Ada Reed born?", "Ben Cook was born in Stonehill.", WRONG),
    ("Where was Ada Reed born?", "Stonehill", WRONG),
    ("In which year was Ben Cook born?", "Ben Cook was born in 1961.", RIGHT),
    ("In which year was Ben Cook born?", "Ben Cook was born in 1962.", WRONG),
    ("Which river flows through Oakford?", "The river that flows through Oakford is the Gilda.", RIGHT),
    ("Which river flows through Oakford?", "The river that flows through Oakford is the Alba.", WRONG),
    ("Ada is 12. Ben is 9. Which of them is younger?", "Ben is younger, because 9 is less than 12.", RIGHT),
    ("Ada is 12. Ben is 9. Which of them is younger?", "Ada is younger, because 12 is less than 9.", WRONG),
    (
        "All bakers like soup. Leo is a pilot. Does Leo like soup?",
        "We cannot know, because Leo is a pilot and not a baker.",
        RIGHT,
    ),
    (
        "All bakers like soup. Leo is a pilot. Does Leo like soup?",
        "Yes, Leo likes soup, because all bakers like soup.",
        WRONG,
    ),
    ("Find the odd one out: cat, apple, dog, cow.", "The odd one out is apple, because it is not an animal.", RIGHT),
    ("Find the odd one out: cat, apple, dog, cow.", "The odd one out is dog, because it is not an animal.", WRONG),
    (
        "Write a three-step plan for making tea.",
        "1. Boil the water.\n2. Put the tea in a cup.\n3. Pour the water into the cup.",
        RIGHT,
    ),
    (
        "Write a three-step plan for making tea.",
        "1. Put the tea in a cup.\n2. Boil the water.\n3. Pour the water into the cup.",
        WRONG,
    ),
    (
        "Put these in order of time: swim at 9, read at 11, cook at 2.",
        "First cook at 2, then swim at 9 and last read at 11.",
        RIGHT,
    ),
    (
        "Put these in order of time: swim at 9, read at 11, cook at 2.",
        "First read at 11, then cook at 2 and last swim at 9.",
        WRONG,
    ),
    ("Name two things to pack for school.", "Take a pen and a ruler.", RIGHT),
    ("Name two things to pack for school.", "You should pack a ruler and a pen.", RIGHT),
    ("Name two things to pack for school.", "Take a pen and a pen.", WRONG),
    ("Name two things to pack for school.", "Take a pen, a ruler and a bag.", WRONG),
    ("Name two things to pack for school.", "Take a pen and a towel.", WRONG),
    ("Fix the capital letter: the dog sleeps in the park.", "The dog sleeps in the park.", RIGHT),
    ("Fix the capital letter: the dog sleeps in the park.", "the dog sleeps in the park.", WRONG),
    ("Change the sentence to the past: The cat runs by the river.", "The cat ran by the river.", RIGHT),
    (
        "Write a Python function named add_three that adds 3 to its argument.",
        "def add_three(x):\n    return x + 3",
        RIGHT,
    ),
    (
        "Write a Python function named add_three that adds 3 to its argument.",
        "def add_three(x):\n    return x + 4",
        WRONG,
    ),
    ("Write a Python function named add_three that adds 3 to its argument.", "def add_three(x):\nreturn x + 3", WRONG),
    ("What does this line print: print(4 + 5)", "It prints 9, because 4 + 5 is 9.", RIGHT),
    ('Fix this line: print("hello cat"', 'print("hello cat")', RIGHT),
    ("What is 7 plus 8?", "If you add 7 and 8, you get 15.", RIGHT),
    ("What is 7 plus 8?", "If you add 7 and 8, you get 16.", WRONG),
    ("You are a baker. Greet a customer named Ivy.", "Hello, Ivy! I am your baker. The bread is fresh today.", RIGHT),
    ("You are a baker. Greet a customer named Ivy.", "Hello, Ada! I am your baker. The bread is fresh today.", WRONG),
    (
        "Who has the largest number?\nAda: 4\nBen: 17\nIvy: 9",
        "The largest of 4, 17 and 9 is 17, so the answer is Ben.",
        RIGHT,
    ),
    (
        "Who has the largest number?\nAda: 4\nBen: 17\nIvy: 9",
        "The largest of 4, 17 and 9 is 17, so the answer is Ivy.",
        WRONG,
    ),
    ("Count the word red: red, blue, red, pink.", "Red is in the list 2 times.", RIGHT),
    ("Count the word red: red, blue, red, pink.", "Red is in the list once.", WRONG),
    ("Make a short rhyme about a fox.", "Today I saw a little fox,\nit sat beside a little box.", RIGHT),
    ("Make a short rhyme about a fox.", "Today I saw a little fox,\nit sat beside a little house.", WRONG),
    ("What do I need to cut bread?", "If you want to cut bread, you need a knife.", RIGHT),
    ("What do I need to cut bread?", "If you want to cut bread, you need a spoon.", WRONG),
    ("Name three animals.", "You could name lion, cat and cow.", RIGHT),
    ("Name three animals.", "You could name lion, cat and apple.", WRONG),
    ("Name three animals.", "You could name lion and cat and cow.", WRONG),
    ("Name three animals.", "You could name lion, cat, cow.", WRONG),
    ("Name three animals.", "You could name lion and cat.", WRONG),
    ("Which day comes before Monday?", "The day before Monday is Sunday.", RIGHT),
    ("What is the plural of mouse?", "The plural of mouse is mouses.", WRONG),
    ("What is the plural of mouse?", "The plural of mouse is mice.", RIGHT),
    ("Where was Ada Stone born?", "Ada Stone was born in Stonehill.", UNKNOWN),
    ("What is 70 plus 8?", "If you add 70 and 8, you get 78.", UNKNOWN),
    ("Who has the largest number?\nAda: 4\nAda: 17\nIvy: 9", "Ada", UNKNOWN),
    ("", "", UNKNOWN),
]


@pytest.mark.parametrize(("instruction", "answer", "verdict"), JUDGED)
def test_the_verdict_on_a_handwritten_case(instruction: str, answer: str, verdict: Verdict) -> None:
    assert check(instruction, answer, WORLD) is verdict


def test_whitespace_around_instruction_and_response_is_ignored() -> None:
    assert check(" What is 7 plus 8?\n", "\n The sum of 7 and 8 is 15. ", WORLD) is RIGHT


def test_whitespace_inside_a_response_matters() -> None:
    assert check("What is 7 plus 8?", "The sum of 7  and 8 is 15.", WORLD) is WRONG


def test_the_verdict_depends_on_the_world() -> None:
    other = make_world(1)
    answer = f"Ada Reed was born in {other.person('Ada Reed').birthplace}."
    assert check("Where was Ada Reed born?", answer, other) is RIGHT
    assert check("Where was Ada Reed born?", answer, WORLD) is WRONG


def test_identify_returns_the_task_and_the_slots() -> None:
    found = identify("I am writing a quiz. Where was Ada Reed born?")
    assert found is not None
    assert (found[0].name, found[1]) == ("person_birthplace", {"person": "Ada Reed"})


def test_three_thousand_sampled_answers_are_right() -> None:
    rng = Random(11)
    for _ in range(3000):
        example = sample_example(rng, WORLD)
        assert check(example.instruction, example.answer, WORLD) is RIGHT, example


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(), world_seed=st.integers(0, 50))
def test_sampled_answers_are_right_in_any_world(seed: int, world_seed: int) -> None:
    world = make_world(world_seed)
    example = sample_example(Random(seed), world)
    assert check(example.instruction, example.answer, world) is RIGHT


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_corrupted_answers_are_wrong(task: Task) -> None:
    rng = Random(task.name)
    for _ in range(20):
        slots = task.sample_slots(rng)
        answer = task.answer(slots, rng, WORLD)
        words = answer.split(" ")
        for spoilt in (
            "",
            answer[:-1],
            " ".join(words[:-1]),
            " ".join(words[1:]),
            answer[: len(answer) // 2],
            f"{answer} And more.",
            f"{answer}\n{answer}",
            f"{answer}.",
            f"Well, {answer}",
            answer.swapcase(),
        ):
            assert not task.judge(slots, spoilt, WORLD), (slots, spoilt)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_answers_to_other_slots_are_almost_always_wrong(task: Task) -> None:
    rng = Random(task.name)
    accepted = 0
    for _ in range(200):
        asked, other = task.sample_slots(rng), task.sample_slots(rng)
        accepted += asked != other and task.judge(asked, task.answer(other, rng, WORLD), WORLD)
    # Some answers are right for two questions: facts with equal values, sets that overlap.
    assert accepted <= 40


def test_the_checker_handles_thousands_of_responses_per_second() -> None:
    rng = Random(5)
    examples = [sample_example(rng, WORLD) for _ in range(1000)]
    start = perf_counter()
    for example in examples:
        check(example.instruction, example.answer, WORLD)
    assert perf_counter() - start < 1.0
