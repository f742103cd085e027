"""Training conversations that follow a steering text (the sentences of `data.steering`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from mlx_suite.data.steering import steering_text
from mlx_suite.microworld import CATEGORIES, DIFFICULTIES, World, WorldExample, is_heldout, sample_example
from mlx_suite.microworld.topics import PERSONAS, TOPICS, topics_of, words_about

DIMENSION_SHARES = {"category": 5, "topic": 4, "difficulty": 2, "persona": 2}
"""Relative frequency of each steering dimension."""
TWO_SHARE = 0.3
"""Fraction of steering texts with two dimensions."""
TWO_TURN_SHARE = 0.15
"""Fraction of category-steered conversations with a second instruction of the same category."""
WORD_SHARE = 0.5
"""Fraction of topics that are a word of the instruction ("Oakford") instead of its class ("towns")."""
_PERSONA_OF = {task: persona for persona, tasks in PERSONAS.items() for task in tasks}

Fits = Callable[[WorldExample], bool]


@dataclass(frozen=True, kw_only=True)
class SteeredExample:
    """A steering text and a conversation that obeys it."""

    text: str
    turns: tuple[WorldExample, ...]


def write_steered(rng: Random, world: World) -> SteeredExample:
    """Draw a conversation that is not held out, with one or two steering sentences that all its instructions obey."""
    [dimension] = rng.choices(list(DIMENSION_SHARES), weights=list(DIMENSION_SHARES.values()))
    value, fits = _AIMS[dimension](rng)
    first = _example(rng, world, fits)
    if dimension == "topic" and rng.random() < WORD_SHARE:
        value = rng.choice(words_about(first.instruction, value))
        fits = _mentions(value)
    aims = {dimension: (value, fits)}
    others = _described(rng, first)
    others.pop(dimension, None)
    if others and rng.random() < TWO_SHARE:
        other = rng.choice(list(others))
        aims[other] = others[other]
    names = rng.sample(list(aims), len(aims))
    text = " ".join(steering_text(name, aims[name][0]) for name in names)
    if dimension == "category" and rng.random() < TWO_TURN_SHARE:
        return SteeredExample(text=text, turns=(first, _example(rng, world, lambda each: _all_fit(each, aims))))
    return SteeredExample(text=text, turns=(first,))


def _example(rng: Random, world: World, fits: Fits) -> WorldExample:
    while True:
        example = sample_example(rng, world)
        if fits(example) and not is_heldout(example.instruction):
            return example


def _all_fit(example: WorldExample, aims: Mapping[str, tuple[str, Fits]]) -> bool:
    return all(fits(example) for _, fits in aims.values())


def _mentions(word: str) -> Fits:
    return lambda example: word in example.instruction


def _about(topic: str) -> Fits:
    return lambda example: bool(words_about(example.instruction, topic))


def _by(persona: str) -> Fits:
    return lambda example: example.task in PERSONAS[persona]


def _in(category: str) -> Fits:
    return lambda example: example.category == category


def _of_difficulty(difficulty: str) -> Fits:
    return lambda example: example.difficulty == difficulty


def _drawn(values: list[str], fits: Callable[[str], Fits]) -> Callable[[Random], tuple[str, Fits]]:
    def aim(rng: Random) -> tuple[str, Fits]:
        value = rng.choice(values)
        return value, fits(value)

    return aim


_AIMS: Mapping[str, Callable[[Random], tuple[str, Fits]]] = {
    "category": _drawn(list(CATEGORIES), _in),
    "topic": _drawn(list(TOPICS), _about),
    "difficulty": _drawn(list(DIFFICULTIES), _of_difficulty),
    "persona": _drawn(list(PERSONAS), _by),
}


def _described(rng: Random, example: WorldExample) -> dict[str, tuple[str, Fits]]:
    """Steering sentences that fit the example, by dimension."""
    found = {
        "category": (example.category, _in(example.category)),
        "difficulty": (example.difficulty, _of_difficulty(example.difficulty)),
    }
    if topics := topics_of(example.instruction):
        topic = rng.choice(topics)
        found["topic"] = topic, _about(topic)
    if example.task in _PERSONA_OF:
        persona = _PERSONA_OF[example.task]
        found["persona"] = persona, _by(persona)
    return found
