"""Conversations behind a text that says what their user will ask for: the sentences of `data.steering`, obeyed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from mlx_suite.data.steering import steering_text
from mlx_suite.microworld import CATEGORIES, DIFFICULTIES, Example, World, is_heldout, sample_example
from mlx_suite.microworld.topics import PERSONAS, TOPICS, topics_of, words_about

DIMENSION_SHARES = {"category": 5, "topic": 4, "difficulty": 2, "persona": 2}
"""How often each is what steers, as parts of the sum."""
TWO_SHARE = 0.3
"""Of the texts steer in two dimensions."""
TWO_TURN_SHARE = 0.15
"""Of the conversations of a category go on with a second instruction that the same text asks for."""
WORD_SHARE = 0.5
"""Of the topics are a word of the instruction, as "Oakford", the others what such words are, as "towns"."""
_PERSONA_OF = {task: persona for persona, tasks in PERSONAS.items() for task in tasks}

Fits = Callable[[Example], bool]


@dataclass(frozen=True, kw_only=True)
class Steered:
    """A steering text and a conversation that does what it says."""

    text: str
    turns: tuple[Example, ...]


def write_steered(rng: Random, world: World) -> Steered:
    """A conversation that training may see, behind one or two sentences that hold for each of its instructions."""
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
        return Steered(text=text, turns=(first, _example(rng, world, lambda each: _all_fit(each, aims))))
    return Steered(text=text, turns=(first,))


def _example(rng: Random, world: World, fits: Fits) -> Example:
    while True:
        example = sample_example(rng, world)
        if fits(example) and not is_heldout(example.instruction):
            return example


def _all_fit(example: Example, aims: Mapping[str, tuple[str, Fits]]) -> bool:
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


def _described(rng: Random, example: Example) -> dict[str, tuple[str, Fits]]:
    """What could have steered to the example, by dimension."""
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
