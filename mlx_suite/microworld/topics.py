"""Topics of instructions, by their words, and personas who would ask them."""

import re
from collections.abc import Mapping
from functools import cache

from .lexicon import DAYS, KINDS, MONTHS, OBJECTS, plural
from .world import FIRST_NAMES, FOODS, JOBS, PLACE_NAMES


def _with_plurals(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple({form: None for word in words for form in (word, plural(word))})


TOPICS: Mapping[str, tuple[str, ...]] = {
    **{plural(kind): _with_plurals(words) for kind, words in KINDS.items() if kind != "sport"},
    "things": _with_plurals(OBJECTS),
    "people": FIRST_NAMES,
    "towns": PLACE_NAMES,
    "jobs": _with_plurals(tuple(JOBS)),
    "food": tuple(FOODS),
    "days": DAYS,
    "months": MONTHS,
}
"""Words of each topic; an instruction with one of them is about that topic. No instruction names a sport."""

PERSONAS: Mapping[str, tuple[str, ...]] = {
    "a programmer": (
        *("write_add_function", "write_subtract_function", "write_times_function", "fix_missing_colon"),
        *("fix_missing_bracket", "print_sum", "list_index", "write_loop", "set_variable"),
    ),
    "a poet": ("two_line_rhyme", "sentence_with_word", "sentence_with_two_words"),
    "a traveller": (
        *("place_country", "place_river", "place_known_for", "place_food", "place_landmark", "place_summary"),
        *("guide_in_town", "packing_list"),
    ),
    "a shopkeeper": ("price_of_many", "story_of_more", "story_of_less"),
    "a reporter": (
        *("person_birthplace", "person_birth_year", "person_job", "person_hobby", "person_food", "person_pet"),
        *("person_friend", "person_summary"),
    ),
    "an editor": (
        *("fix_capital", "past_tense", "replace_word", "remove_word", "fix_spelling", "make_plural"),
        *("make_question", "join_sentences"),
    ),
    "an actor": ("greet_as", "speak_as_animal", "speak_as_person", "waiter"),
}
"""Personas, each with the tasks that such a person brings."""


@cache
def _pattern(topic: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, TOPICS[topic]))})\b")


def words_about(instruction: str, topic: str) -> list[str]:
    """Words of the topic that the instruction contains."""
    return _pattern(topic).findall(instruction)


def topics_of(instruction: str) -> list[str]:
    """The topics that the instruction is about."""
    return [topic for topic in TOPICS if words_about(instruction, topic)]
