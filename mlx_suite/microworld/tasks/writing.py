"""Creative writing: rhymes, titles, sentences and story openings that use a given word."""

from collections.abc import Mapping

from ..lexicon import KINDS, OBJECTS, article, capital
from ..task import Slots, Task, one_of
from ..world import FIRST_NAMES, World

_OPENINGS = (
    "I am writing a book for children.",
    "You are a poet.",
    "Let us be creative.",
    "I need a text for a card.",
    "We have a writing class.",
    "Please help me with my story.",
)
_RHYMES: Mapping[str, tuple[str, ...]] = {
    "cat": ("hat", "mat"),
    "dog": ("frog",),
    "mouse": ("house",),
    "tree": ("bee", "sea"),
    "star": ("car",),
    "moon": ("spoon",),
    "rain": ("train",),
    "boat": ("coat", "goat"),
    "king": ("ring",),
    "bell": ("shell",),
    "cake": ("lake",),
    "bear": ("chair", "pear"),
    "fox": ("box",),
    "sheep": ("jeep",),
    "snail": ("whale",),
    "rose": ("nose",),
    "sock": ("clock", "rock"),
    "book": ("cook",),
    "fish": ("dish",),
    "bird": ("herd",),
}
_SPOTS = tuple("garden forest kitchen school market castle library boat".split())
_ANIMALS = (*KINDS["animal"], *KINDS["bird"])
_FEELINGS = tuple("happy brave clever old quiet small".split())


def _couplet(slots: Slots, world: World) -> tuple[str, ...]:
    word = slots["word"]
    return tuple(
        text
        for rhyme in _RHYMES[word]
        for text in (
            f"Today I saw a little {word},\nit sat beside a little {rhyme}.",
            f"My friend has found a big old {word},\nand next to it a big old {rhyme}.",
        )
    )


def _sentence(slots: Slots, world: World) -> tuple[str, ...]:
    word = slots["word"]
    return tuple(
        text
        for spot in _SPOTS
        for text in (
            f"One day we found {article(word)} in the {spot} and were very happy.",
            f"My friend saw {article(word)} in the {spot} and told me about it.",
        )
    )


def _pair(slots: Slots, world: World) -> tuple[str, ...]:
    a, b = slots["a"], slots["b"]
    return (
        f"Early in the morning, the {a} looked at the {b} and smiled.",
        f"One day the {a} found {article(b)} under a tree and took it home.",
    )


def _story(slots: Slots, world: World) -> tuple[str, ...]:
    animal, spot = slots["animal"], slots["spot"]
    return tuple(
        f"Once upon a time, {article(feeling)} {animal} lived in a {spot}. One day the {animal} met a new friend."
        for feeling in _FEELINGS
    )


def _wish(slots: Slots, world: World) -> tuple[str, ...]:
    name, day = slots["name"], slots["day"]
    return (
        f"Dear {name}, I wish you a happy {day} with cake and music!",
        f"Happy {day}, {name}! May your day be full of sun and good friends.",
    )


TASKS = (
    Task(
        name="two_line_rhyme",
        category="Creative writing",
        difficulty="hard",
        openings=_OPENINGS,
        slots={"word": tuple(_RHYMES)},
        phrasings=(
            "Write a two-line rhyme with the word {word}.",
            "Make a short rhyme about a {word}.",
            "I need two lines that rhyme. The first one ends with {word}.",
            "Can you write a little poem about a {word}?",
            "Give me a funny rhyme for the word {word}.",
            "Please write two lines for children. Let the first line end in {word}.",
            "Which two lines would a poet write about a {word}?",
        ),
        answering=one_of(_couplet),
    ),
    Task(
        name="sentence_with_word",
        category="Creative writing",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"word": (*_ANIMALS, *OBJECTS)},
        phrasings=(
            "Write a sentence with the word {word}.",
            "Use the word {word} in a short sentence.",
            "Make up a sentence about {word:a}.",
            "Can you write one sentence in which {word:a} is somewhere?",
            "Please give me an example sentence for the word {word}.",
            "I need a simple sentence that names {word:a}.",
            "Where could {word:a} be? Write one sentence.",
        ),
        answering=one_of(_sentence),
    ),
    Task(
        name="sentence_with_two_words",
        category="Creative writing",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"a": _ANIMALS, "b": OBJECTS},
        phrasings=(
            "Write a sentence with the words {a} and {b}.",
            "Use both {a} and {b} in one sentence.",
            "Make up a sentence about {a:a} and {b:a}.",
            "Can you write one line in which {a:a} sees {b:a}?",
            "Please bring the words {a} and {b} together in a sentence.",
            "I need a line for my story about {a:a} with {b:a}.",
        ),
        answering=one_of(_pair),
    ),
    Task(
        name="story_opening",
        category="Creative writing",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"animal": _ANIMALS, "spot": _SPOTS},
        phrasings=(
            "Begin a story about {animal:a} in a {spot}.",
            "Write the first two sentences of a tale about {animal:a} that lives in a {spot}.",
            "How could a story about {animal:a} in a {spot} begin?",
            "Start a story for children. It is about {animal:a} and a {spot}.",
            "Please write how a tale about {animal:a} from a {spot} starts.",
            "I want to tell a story of {animal:a} in a {spot}. Give me a beginning.",
        ),
        answering=one_of(_story),
    ),
    Task(
        name="story_title",
        category="Creative writing",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"animal": _ANIMALS, "thing": OBJECTS},
        phrasings=(
            "Give me a title for a story about {animal:a} and {thing:a}.",
            "What is a good title for a book about {animal:a} with {thing:a}?",
            "My story is about {animal:a} that finds {thing:a}. How should I call it?",
            "Name a tale in which {animal:a} has {thing:a}.",
            "Please find a title for my tale of {animal:a} and {thing:a}.",
            "I need a short title. The story has {animal:a} and {thing:a} in it.",
        ),
        answering=one_of(
            lambda s, w: (
                f"A good title is: The {capital(s['animal'])} and the {capital(s['thing'])}.",
                f"You could call it: The {capital(s['animal'])} and the {capital(s['thing'])}.",
            )
        ),
    ),
    Task(
        name="greeting_card",
        category="Creative writing",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"name": FIRST_NAMES, "day": ("birthday", "holiday", "weekend", "new year")},
        phrasings=(
            "Write a {day} card for {name}.",
            "Give me a kind {day} wish for {name}.",
            "What can I write to {name} for a happy {day}?",
            "Please write a short {day} greeting to my friend {name}.",
            "I am making a {day} card. It is for {name}. What should it say?",
            "Make up one or two kind lines for {name} about the {day}.",
        ),
        answering=one_of(_wish),
    ),
)
