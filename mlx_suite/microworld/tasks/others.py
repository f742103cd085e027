"""Others: word knowledge, the calendar, courtesies, and repeating a text."""

from random import Random

from ..lexicon import (
    COLOR_OF,
    COUNTABLE_KINDS,
    DAYS,
    KIND_OF,
    KINDS,
    MONTHS,
    OBJECTS,
    OPPOSITES,
    article,
    capital,
    plural,
)
from ..task import Slots, Task, one_of
from ..world import FIRST_NAMES, World

_OPENINGS = (
    "I am learning English.",
    "Hello!",
    "One small question.",
    "Thank you for your help.",
    "This is for a game.",
    "I am a teacher.",
)
_KIND_WORDS = tuple(word for kind in COUNTABLE_KINDS for word in KINDS[kind])
_FAVORS = tuple("the cake|the help|the flowers|the letter|the book|the dinner|the ride|the music".split("|"))
_SAYINGS_SUBJECTS = tuple("My dog|The sun|Our house|The river|A friend|The moon|Her cat".split("|"))
_SAYINGS_ENDS = (
    "is very old",
    "is far away",
    "makes me happy",
    "was here today",
    "is never late",
    "sleeps all day",
    "looks good",
)
_IRREGULAR = ("mouse", "child", "leaf", "knife", "foot", "wolf")
_NEAR = {"after": 1, "before": -1}


def _neighbor(names: tuple[str, ...], slots: Slots, key: str) -> tuple[str, ...]:
    name, side = slots[key], slots["side"]
    other = names[(names.index(name) + _NEAR[side]) % len(names)]
    return (f"The {key} {side} {name} is {other}.", f"{other} comes {side} {name}.")


def _kind_answers(slots: Slots, world: World) -> tuple[str, ...]:
    word, kind = slots["word"], KIND_OF[slots["word"]]
    return tuple(
        f"{capital(article(word))} is {article(kind)}, just like {article(other)}."
        for other in KINDS[kind]
        if other != word
    )


def _is_a(slots: Slots, world: World) -> tuple[str, ...]:
    word, asked = slots["word"], slots["kind"]
    if KIND_OF[word] == asked:
        return (f"Yes, {article(word)} is {article(asked)}.",)
    return (f"No, {article(word)} is {article(KIND_OF[word])} and not {article(asked)}.",)


def _sample_is_a(rng: Random) -> dict[str, str]:
    word = rng.choice(_KIND_WORDS)
    kind = KIND_OF[word] if rng.random() < 0.5 else rng.choice(COUNTABLE_KINDS)
    return {"word": word, "kind": kind}


TASKS = (
    Task(
        name="opposite",
        category="Others",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"word": tuple(OPPOSITES)},
        phrasings=(
            "What is the opposite of {word}?",
            "Tell me the opposite of the word {word}.",
            "Which word means the opposite of {word}?",
            "Can you give me the opposite of {word}?",
            "I say {word}. You say the opposite.",
            "Please name a word that is the opposite of {word}.",
            "If something is not {word}, what is the opposite word?",
        ),
        answering=one_of(lambda s, w: (f"The opposite of {s['word']} is {OPPOSITES[s['word']]}.",)),
    ),
    Task(
        name="plural",
        category="Others",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"word": (*KINDS["animal"], *KINDS["fruit"], *OBJECTS, *_IRREGULAR)},
        phrasings=(
            "What is the plural of {word}?",
            "Tell me the plural of the word {word}.",
            "How do I say {word} when there are two of them?",
            "Can you give me the plural form of {word}?",
            "One {word}, two of them: what is the right word?",
            "Please write the plural form of the noun {word}.",
            "What do we call more than one {word}?",
        ),
        answering=one_of(lambda s, w: (f"The plural of {s['word']} is {plural(s['word'])}.",)),
    ),
    Task(
        name="color_of",
        category="Others",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"thing": tuple(COLOR_OF)},
        phrasings=(
            "What color is {thing}?",
            "Tell me the color of {thing}.",
            "Which color does {thing} have?",
            "I want to paint {thing}. Which color do I need?",
            "Do you know the color of {thing}?",
            "Please name the usual color of {thing}.",
            "What is the color that people think of for {thing}?",
        ),
        answering=one_of(
            lambda s, w: (
                f"The color of {s['thing']} is {COLOR_OF[s['thing']]}.",
                f"{capital(s['thing'])} is {COLOR_OF[s['thing']]}.",
            )
        ),
    ),
    Task(
        name="kind_of",
        category="Others",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"word": _KIND_WORDS},
        phrasings=(
            "What kind of thing is {word:a}?",
            "What is {word:a}?",
            "Tell me what kind of thing {word:a} is.",
            "To which group does {word:a} belong?",
            "Can you say in one sentence what {word:a} is?",
            "Please explain to a child what {word:a} is.",
            "I do not know the word {word}. What does it mean?",
        ),
        answering=one_of(_kind_answers),
    ),
    Task(
        name="is_it_a",
        category="Others",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"word": _KIND_WORDS, "kind": COUNTABLE_KINDS},
        sampler=_sample_is_a,
        valid=lambda s: not (KIND_OF[s["word"]] == "bird" and s["kind"] == "animal"),
        phrasings=(
            "Is {word:a} {kind:a}?",
            "Yes or no: {word:a} is {kind:a}.",
            "Can we say that {word:a} is {kind:a}?",
            "My brother says {word:a} is {kind:a}. Is he right?",
            "Do you think {word:a} is {kind:a}?",
            "Tell me if {word:a} is {kind:a} or not.",
        ),
        answering=one_of(_is_a),
    ),
    Task(
        name="day_near",
        category="Others",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"day": DAYS, "side": tuple(_NEAR)},
        phrasings=(
            "Which day comes {side} {day}?",
            "What is the day {side} {day}?",
            "Tell me the day that comes right {side} {day}.",
            "Can you name the day {side} {day}?",
            "I always mix up the week. What comes {side} {day}?",
            "Please say which day of the week is {side} {day}.",
        ),
        answering=one_of(lambda s, w: _neighbor(DAYS, s, "day")),
    ),
    Task(
        name="month_near",
        category="Others",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"month": MONTHS, "side": tuple(_NEAR)},
        phrasings=(
            "Which month comes {side} {month}?",
            "What is the month {side} {month}?",
            "Tell me the month that comes right {side} {month}.",
            "Can you name the month {side} {month}?",
            "I always mix up the year. What comes {side} {month}?",
            "Please say which month of the year is {side} {month}.",
        ),
        answering=one_of(lambda s, w: _neighbor(MONTHS, s, "month")),
    ),
    Task(
        name="repeat_saying",
        category="Others",
        difficulty="very easy",
        openings=_OPENINGS,
        slots={"subject": _SAYINGS_SUBJECTS, "end": _SAYINGS_ENDS},
        phrasings=(
            "Repeat after me: {subject} {end}.",
            "Say this sentence: {subject} {end}.",
            "Please copy this line.\n{subject} {end}.",
            "Write exactly the same words: {subject} {end}.",
            'Can you say "{subject} {end}." for me?',
            "I say a sentence and you say it too. {subject} {end}.",
        ),
        answering=one_of(lambda s, w: (f"{s['subject']} {s['end']}.",)),
    ),
    Task(
        name="say_thanks",
        category="Others",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"name": FIRST_NAMES, "favor": _FAVORS},
        phrasings=(
            "Thank {name} for {favor}.",
            "How do I thank {name} for {favor}?",
            "Write a polite thank you to {name} for {favor}.",
            "I got {favor} from {name}. Please say thank you for me.",
            "What are kind words to {name} after {favor}?",
            "Say thanks for {favor}. The name is {name}.",
        ),
        answering=one_of(
            lambda s, w: (
                f"Thank you very much for {s['favor']}, {s['name']}!",
                f"Dear {s['name']}, thank you for {s['favor']}. That was very kind.",
            )
        ),
    ),
)
