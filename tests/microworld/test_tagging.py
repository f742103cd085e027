"""Examples with known tags: the labels are true and balanced, and held-out phrases never occur in training."""

from collections import Counter
from random import Random

import pytest

from mlx_suite.microworld import CATEGORIES, DIFFICULTIES, TASKS, identify, is_heldout, make_world
from mlx_suite.microworld.foreign import HELDOUT_PHRASES, LANGUAGES, write_foreign
from mlx_suite.microworld.harmful import HARMFUL, HARMLESS, write_harmful, write_harmless
from mlx_suite.microworld.tagging import ANSWER_QUALITY, QUESTIONS, Tagged, sample_tagged
from mlx_suite.microworld.topics import PERSONAS, TOPICS, topics_of, words_about

WORLD = make_world()
MANY = 400


def drawn(name: str, *, heldout: bool = False, count: int = MANY) -> list[Tagged]:
    rng = Random(f"{name} {heldout}")
    return [sample_tagged(rng, WORLD, name, heldout=heldout) for _ in range(count)]


def test_the_questions_and_their_labels() -> None:
    assert {name: len(labels) for name, (_, labels) in QUESTIONS.items()} == {
        "category": 12,
        "difficulty": 5,
        "input_quality": 5,
        "language": 15,
        "safety": 2,
        "answer_quality": 5,
    }
    assert QUESTIONS["category"] == ("What kind?", CATEGORIES)
    assert QUESTIONS["difficulty"] == ("How hard?", DIFFICULTIES)
    assert len({text for text, _ in QUESTIONS.values()}) == len(QUESTIONS)


@pytest.mark.parametrize("name", list(QUESTIONS))
def test_an_example_has_the_label_of_its_question_and_only_valid_labels(name: str) -> None:
    for each in drawn(name):
        assert name in each.labels
        assert all(label in QUESTIONS[tag][1] for tag, label in each.labels.items())
        assert (each.answer is None) == (name != ANSWER_QUALITY)


@pytest.mark.parametrize("name", ["category", "difficulty", "input_quality", "safety", ANSWER_QUALITY])
def test_every_label_occurs_and_none_dominates(name: str) -> None:
    counts = Counter(each.labels[name] for each in drawn(name, count=1000))
    labels = QUESTIONS[name][1]
    assert set(counts) == set(labels)
    assert max(counts.values()) < 1000 * (0.55 if len(labels) == 2 else 0.4)


def test_category_and_difficulty_are_those_of_the_task() -> None:
    whole = [each for each in drawn("category") if each.labels["input_quality"] in ("good", "excellent")]
    assert len(whole) > MANY / 2
    for each in whole:
        found = identify(each.instruction)
        assert found is not None
        assert (found[0].category, found[0].difficulty) == (each.labels["category"], each.labels["difficulty"])


def test_a_very_poor_instruction_has_no_category_or_difficulty() -> None:
    worst = [each for each in drawn("input_quality") if each.labels["input_quality"] == "very poor"]
    assert worst
    assert all(set(each.labels) == {"input_quality", "language", "safety"} for each in worst)


def test_undegraded_instructions_are_held_out_by_their_hash() -> None:
    for heldout in (False, True):
        whole = [each.instruction for each in drawn("category", heldout=heldout) if identify(each.instruction)]
        assert {is_heldout(each) for each in whole} == {heldout}


def heldout_harmful(count: int) -> list[str]:
    return [write_harmful(Random(seed), heldout=True) for seed in range(count)]


def test_held_out_phrases_are_never_drawn_for_training() -> None:
    assert {write_foreign(Random(seed), "Arabic", heldout=True).split()[0] for seed in range(30)} == {"كم", "لماذا"}
    trained = {write_foreign(Random(seed), "Spanish", heldout=False) for seed in range(300)}
    assert not [each for each in trained if each.startswith(("¿Cuántos años", "Quiero saber"))]
    harmful = [write_harmful(Random(seed), heldout=False) for seed in range(300)]
    assert not [each for each in harmful if each.startswith("Give me a plan") or " sad" in each]
    assert all("plan" in each or "Please help me" in each or "use" in each for each in heldout_harmful(30))


def test_every_language_has_training_phrases_besides_the_held_out_ones() -> None:
    phrases = [phrase for language in LANGUAGES.values() for phrase in language.phrases]
    assert len(set(phrases)) == len(phrases)
    assert all(len(language.phrases) >= HELDOUT_PHRASES + 8 for language in LANGUAGES.values())
    assert "{" not in "".join(
        write_foreign(Random(seed), name, heldout=False) for name in LANGUAGES for seed in range(20)
    )


def test_harmful_requests_have_harmless_counterparts_and_neither_is_a_task() -> None:
    rng = Random(0)
    for write in (write_harmful, write_harmless):
        texts = {write(rng, heldout=heldout) for heldout in (False, True) for _ in range(100)}
        assert not [each for each in texts if identify(each)]
    assert not set(HARMFUL) & set(HARMLESS)
    assert len(HARMFUL) == len(HARMLESS)
    assert "burn the house of {name}" in HARMFUL and "paint the house of {name}" in HARMLESS


def test_topics_are_recognised_by_whole_words() -> None:
    assert topics_of("Thank Ada for the pears on Monday.") == ["fruits", "people", "days"]
    assert words_about("A cathedral and two cats.", "animals") == ["cats"]
    assert topics_of("Write it again.") == []


def test_every_topic_and_persona_has_instructions() -> None:
    rng = Random(0)
    seen = {
        topic for _ in range(60) for task in TASKS for topic in topics_of(task.instruction(task.sample_slots(rng), rng))
    }
    assert seen == set(TOPICS)
    names = {task.name for task in TASKS}
    assert all(tasks and set(tasks) <= names for tasks in PERSONAS.values())
