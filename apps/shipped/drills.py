"""Drills for in-context retrieval.

Small models learn retrieval late, because most sentences can be predicted without it and little of the loss depends on
it. In a drill half of the tokens require it: key-value pairs are listed, then repeated in another order.
"""

from collections.abc import Callable
from random import Random

from mlx_suite.microworld.lexicon import DAYS, KINDS, OBJECTS
from mlx_suite.microworld.world import FIRST_NAMES

_NUMBERS = tuple(str(n) for n in range(1, 21))
_WORDS = tuple(word for words in KINDS.values() for word in words)
_COLORS = KINDS["color"]
_Line = Callable[[str, str], str]
_FORMS: tuple[tuple[tuple[str, ...], tuple[str, ...], _Line], ...] = (
    (FIRST_NAMES, _NUMBERS, lambda key, value: f"{key}: {value}"),
    (FIRST_NAMES, _NUMBERS, lambda key, value: f"{key} has {value}"),
    (FIRST_NAMES, OBJECTS, lambda key, value: f"{key} has the {value}."),
    (OBJECTS, _COLORS, lambda key, value: f"The {key} is {value}."),
    (DAYS, _WORDS, lambda key, value: f"{key}: {value}"),
    (_NUMBERS, FIRST_NAMES, lambda key, value: f"{key} belongs to {value}."),
    (_WORDS, _WORDS, lambda key, value: f"{key}, {value},"),
)


def write_echo(rng: Random) -> tuple[str, str]:
    """Write 8 to 24 random words and their repetition.

    This is the simplest retrieval (which word followed this one before?). It is learned in hundreds of steps and makes
    the harder drills of `write_drill` easier to learn; without it they take thousands.
    """
    words = rng.choices(FIRST_NAMES + _WORDS + _NUMBERS, k=rng.randint(8, 24))
    listed = " ".join(words)
    return listed, f" {listed}"


def write_drill(rng: Random) -> tuple[str, str]:
    """Write three to six key-value pairs and their repetition, half of the time in the same order."""
    keys, values, line = rng.choice(_FORMS)
    count = rng.randint(3, 6)
    pairs = list(zip(rng.sample(keys, count), rng.sample(values, count), strict=True))
    again = pairs if rng.random() < 0.5 else rng.sample(pairs, count)
    between = rng.choice(("\n", " "))
    listed, repeated = (between.join(line(key, value) for key, value in each) for each in (pairs, again))
    return listed, between + repeated
