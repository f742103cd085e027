import re
from collections import Counter
from itertools import islice
from random import Random

from mlx_suite.microworld import (
    CATEGORIES,
    TASKS,
    Verdict,
    check,
    heldout_examples,
    identify,
    is_heldout,
    make_world,
    sample_conversation,
    sample_example,
    training_conversations,
)

WORLD = make_world()
HELDOUT = [
    "If Noah is 13 years old and Ben is 19, who is younger?",
    "What are two nice names for a duck that is red?",
    "I am making a game. Give me the names of two colors.",
    "What are the three steps of washing the car?",
]
SPLIT = [
    *HELDOUT,
    "Please say which month of the year is before March.",
    "This is for a game. What is the plural of foot?",
    "I want to fry an egg. What should I use?",
    "Which food does Jonas Lake like most of all?",
]


def test_the_split_of_an_instruction_never_changes() -> None:
    assert [text for text in SPLIT if is_heldout(text)] == HELDOUT


def test_five_percent_of_instructions_are_held_out() -> None:
    rng = Random(0)
    instructions = {sample_example(rng, WORLD).instruction for _ in range(10_000)}
    share = sum(map(is_heldout, instructions)) / len(instructions)
    assert 0.04 < share < 0.06


def test_training_conversations_contain_no_held_out_instruction() -> None:
    for conversation in islice(training_conversations(0), 3000):
        assert not any(is_heldout(turn.instruction) for turn in conversation)


def test_training_conversations_are_reproducible() -> None:
    first, again = (list(islice(training_conversations(1), 50)) for _ in range(2))
    assert first == again != list(islice(training_conversations(2), 50))


def test_held_out_examples_are_distinct_and_right() -> None:
    examples = heldout_examples(0, 200)
    assert len({example.instruction for example in examples}) == 200
    for example in examples:
        assert is_heldout(example.instruction)
        assert check(example.instruction, example.answer, WORLD) is Verdict.RIGHT


def test_every_fact_can_be_asked_in_a_training_phrasing() -> None:
    for task in TASKS:
        if task.category != "Information seeking":
            continue
        ((slot, values),) = task.slots.items()
        for value in values:
            plain = [phrasing.render({slot: value}) for phrasing in task.compiled]
            assert sum(not is_heldout(text) for text in plain) >= 3


def test_fifteen_percent_of_the_conversations_have_two_turns() -> None:
    rng = Random(2)
    turns = Counter(len(sample_conversation(rng, WORLD)) for _ in range(4000))
    assert set(turns) == {1, 2}
    assert 0.12 < turns[2] / 4000 < 0.18


def test_categories_are_sampled_uniformly() -> None:
    rng = Random(3)
    counts = Counter(sample_example(rng, WORLD).category for _ in range(6000))
    assert set(counts) == set(CATEGORIES)
    assert min(counts.values()) > 400


def test_only_the_given_tasks_are_sampled() -> None:
    wanted = [task for task in TASKS if task.name in ("add", "opposite")]
    rng = Random(4)
    assert {sample_example(rng, WORLD, wanted).task for _ in range(100)} == {"add", "opposite"}


def test_an_example_carries_the_labels_of_its_task() -> None:
    rng = Random(5)
    for _ in range(200):
        example = sample_example(rng, WORLD)
        found = identify(example.instruction)
        assert found is not None
        task = found[0]
        assert (example.task, example.category, example.difficulty) == (
            task.name,
            task.category,
            task.difficulty,
        )


def test_ninety_percent_of_sampled_instructions_are_distinct() -> None:
    rng = Random(6)
    assert len({sample_example(rng, WORLD).instruction for _ in range(1000)}) >= 900


def test_the_vocabulary_stays_closed_and_ascii() -> None:
    rng = Random(7)
    texts = [f"{e.instruction} {e.answer}" for e in (sample_example(rng, WORLD) for _ in range(20_000))]
    assert all(text.isascii() for text in texts)
    assert len({w.lower() for text in texts for w in re.findall("[A-Za-z]+", text)}) < 1300
