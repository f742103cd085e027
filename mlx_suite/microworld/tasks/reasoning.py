"""Reasoning: conclusions from two or three statements given in the instruction."""

from random import Random

from ..lexicon import COUNTABLE_KINDS, KIND_OF, KINDS, article, comparative, plural, superlative
from ..task import Slots, Task, one_of
from ..world import FIRST_NAMES, FOODS, JOBS, World

_OPENINGS = (
    "Here is a puzzle.",
    "Think about this.",
    "I need help with a puzzle.",
    "This is a question from my class.",
    "Use only the facts given here.",
    "My friend asked me this.",
)
_QUALITIES = ("tall", "fast", "strong", "old", "young", "small")
_AGES = tuple(str(age) for age in range(5, 21))
_THINGS = ("key", "book", "ring", "ball", "letter", "cup", "coin", "hat")
_HOLDERS = ("box", "drawer", "basket", "bag", "cupboard", "kitchen", "garden", "car")
_WEATHERS = ("rainy", "sunny", "windy", "cold")
_ACTIONS = ("reads", "swims", "cooks", "paints", "sings", "runs", "sleeps", "dances")
_ODD_KINDS = tuple(kind for kind in COUNTABLE_KINDS if kind != "bird")
_ODD_WORDS = tuple(word for kind in _ODD_KINDS for word in KINDS[kind])


def _distinct(slots: Slots, *names: str) -> bool:
    return len({slots[name] for name in names}) == len(names)


def _older(slots: Slots, world: World) -> tuple[str, ...]:
    a, b, m, n = slots["a"], slots["b"], slots["m"], slots["n"]
    if slots["which"] == "older":
        name, high, low = (a, m, n) if int(m) > int(n) else (b, n, m)
        return (f"{name} is older, because {high} is more than {low}.",)
    name, low, high = (a, m, n) if int(m) < int(n) else (b, n, m)
    return (f"{name} is younger, because {low} is less than {high}.",)


def _superlative(slots: Slots, world: World) -> tuple[str, ...]:
    est = superlative(slots["q"])
    return (
        f"{slots['a']} is the {est} of the three.",
        f"The {est} is {slots['a']}, because {slots['a']} is {comparative(slots['q'])} than "
        f"{slots['b']} and {slots['c']}.",
    )


def _syllogism(slots: Slots, world: World) -> tuple[str, ...]:
    name, job, other, food = slots["name"], slots["job"], slots["other"], slots["food"]
    if job == other:
        return (f"Yes, {name} likes {food}, because all {plural(job)} like {food}.",)
    return (f"We cannot know, because {name} is {article(other)} and not {article(job)}.",)


def _sample_syllogism(rng: Random) -> dict[str, str]:
    job = rng.choice(JOBS)
    return {
        "name": rng.choice(FIRST_NAMES),
        "job": job,
        "food": rng.choice(FOODS),
        "other": job if rng.random() < 0.5 else rng.choice(JOBS),
    }


def _odd(slots: Slots) -> tuple[str, str] | None:
    """The odd one out and the kind of the other three."""
    words = [slots[name] for name in "wxyz"]
    kinds = [KIND_OF[word] for word in words]
    for kind in kinds:
        if kinds.count(kind) == 3 and len(set(words)) == 4:
            return next(word for word in words if KIND_OF[word] != kind), kind
    return None


def _odd_answers(slots: Slots, world: World) -> tuple[str, ...]:
    found = _odd(slots)
    assert found is not None
    word, kind = found
    return (
        f"The odd one out is {word}, because it is not {article(kind)}.",
        f"{word.capitalize()} does not belong, because the others are {plural(kind)}.",
    )


def _sample_odd(rng: Random) -> dict[str, str]:
    kind, other = rng.sample(_ODD_KINDS, 2)
    words = [*rng.sample(KINDS[kind], 3), rng.choice(KINDS[other])]
    rng.shuffle(words)
    return dict(zip("wxyz", words, strict=True))


def _conditional(slots: Slots, world: World) -> tuple[str, ...]:
    action = slots["x"] if slots["today"] == slots["v"] else slots["y"]
    return (f"{slots['name']} {action}, because the day is {slots['today']}.",)


def _sample_conditional(rng: Random) -> dict[str, str]:
    v, w = rng.sample(_WEATHERS, 2)
    x, y = rng.sample(_ACTIONS, 2)
    return {"name": rng.choice(FIRST_NAMES), "v": v, "w": w, "x": x, "y": y, "today": rng.choice((v, w))}


TASKS = (
    Task(
        name="who_is_older",
        category="Reasoning",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"a": FIRST_NAMES, "b": FIRST_NAMES, "m": _AGES, "n": _AGES, "which": ("older", "younger")},
        valid=lambda s: _distinct(s, "a", "b") and s["m"] != s["n"],
        phrasings=(
            "{a} is {m} years old and {b} is {n} years old. Who is {which}?",
            "{a} is {m}. {b} is {n}. Which of them is {which}?",
            "If {a} is {m} years old and {b} is {n}, who is {which}?",
            "Tell me who is {which}: {a} is {m} years old, {b} is {n} years old.",
            "Two friends are called {a} and {b}. They are {m} and {n} years old. Who is {which}?",
            "Who is {which}, {a} with {m} years or {b} with {n} years?",
        ),
        answering=one_of(_older),
    ),
    Task(
        name="first_of_three",
        category="Reasoning",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"a": FIRST_NAMES, "b": FIRST_NAMES, "c": FIRST_NAMES, "q": _QUALITIES},
        valid=lambda s: _distinct(s, "a", "b", "c"),
        phrasings=(
            "{a} is {q:er} than {b}. {b} is {q:er} than {c}. Who is the {q:est}?",
            "{b} is {q:er} than {c}. {a} is {q:er} than {b}. Who is the {q:est}?",
            "If {a} is {q:er} than {b} and {b} is {q:er} than {c}, who is the {q:est} of the three?",
            "We know that {b} is {q:er} than {c} and that {a} is {q:er} than {b}. Name the {q:est} of them.",
            "Who is the {q:est} when {a} is {q:er} than {b} and {b} is {q:er} than {c}?",
            "Tell me who is the {q:est}. {b} is {q:er} than {c}, but {a} is {q:er} than {b}.",
        ),
        answering=one_of(_superlative),
    ),
    Task(
        name="all_of_a_job",
        category="Reasoning",
        difficulty="hard",
        openings=_OPENINGS,
        slots={"name": FIRST_NAMES, "job": JOBS, "other": JOBS, "food": FOODS},
        sampler=_sample_syllogism,
        phrasings=(
            "All {job:plural} like {food}. {name} is {other:a}. Does {name} like {food}?",
            "{name} is {other:a}. All {job:plural} like {food}. Does {name} like {food}?",
            "If all {job:plural} like {food} and {name} is {other:a}, does {name} like {food}?",
            "Every day we see that all {job:plural} like {food}. {name} works as {other:a}. "
            "Do we know that {name} likes {food}?",
            "Suppose all {job:plural} like {food}. Can we say that {name}, who is {other:a}, likes {food}?",
            "{name} works as {other:a}. Does it follow that {name} likes {food} if all {job:plural} like {food}?",
        ),
        answering=one_of(_syllogism),
    ),
    Task(
        name="moved_thing",
        category="Reasoning",
        difficulty="easy",
        openings=_OPENINGS,
        slots={"a": FIRST_NAMES, "b": FIRST_NAMES, "thing": _THINGS, "from": _HOLDERS, "to": _HOLDERS},
        valid=lambda s: _distinct(s, "a", "b") and _distinct(s, "from", "to"),
        phrasings=(
            "{a} puts the {thing} in the {from}. {b} moves the {thing} to the {to}. Where is the {thing} now?",
            "The {thing} was in the {from}. Then {a} and {b} put it in the {to}. Where is the {thing} now?",
            "First {a} leaves the {thing} in the {from}, then {b} takes it to the {to}. Where can I find the {thing}?",
            "{b} took the {thing} from the {from} and gave it to {a}, who put it in the {to}. Where is the {thing}?",
            "Where is the {thing} if {a} put it in the {from} and later {b} moved it to the {to}?",
            "Tell me where the {thing} is: {a} moved it from the {from} to the {to} and {b} did not touch it.",
        ),
        answering=one_of(
            lambda s, w: (
                f"The {s['thing']} is now in the {s['to']}.",
                f"The {s['thing']} is in the {s['to']} and no longer in the {s['from']}.",
            )
        ),
    ),
    Task(
        name="odd_one_out",
        category="Reasoning",
        difficulty="medium",
        openings=_OPENINGS,
        slots=dict.fromkeys("wxyz", _ODD_WORDS),
        sampler=_sample_odd,
        valid=lambda s: _odd(s) is not None,
        phrasings=(
            "Which word does not belong: {w}, {x}, {y}, {z}?",
            "Find the odd one out: {w}, {x}, {y}, {z}.",
            "One of the words {w}, {x}, {y} and {z} does not belong. Which one?",
            "Look at these words and name the odd one out.\n- {w}\n- {x}\n- {y}\n- {z}",
            "Can you tell me which of {w}, {x}, {y} and {z} is the odd one out?",
            "Please say which word does not fit with the others: {w}, {x}, {y} or {z}?",
        ),
        answering=one_of(_odd_answers),
    ),
    Task(
        name="what_if_weather",
        category="Reasoning",
        difficulty="medium",
        openings=_OPENINGS,
        slots={"name": FIRST_NAMES, "v": _WEATHERS, "w": _WEATHERS, "x": _ACTIONS, "y": _ACTIONS, "today": _WEATHERS},
        sampler=_sample_conditional,
        valid=lambda s: _distinct(s, "v", "w") and _distinct(s, "x", "y") and s["today"] in (s["v"], s["w"]),
        phrasings=(
            "On {v} days {name} {x}. On {w} days {name} {y}. Today is a {today} day. What does {name} do?",
            "When it is {v}, {name} {x}. When it is {w}, {name} {y}. It is {today} today. What does {name} do?",
            "{name} {x} if the day is {v} and {y} if the day is {w}. What does {name} do on a {today} day?",
            "What does {name} do on a {today} day, if {name} {x} on {v} days and {y} on {w} days?",
            "The rule of {name}: on {v} days {name} {x}, on {w} days {name} {y}. Today it is {today}. What happens?",
            "My friend {name} {x} on {v} days and {y} on {w} days. Tell me what my friend does when it is {today}.",
        ),
        answering=one_of(_conditional),
    ),
)
