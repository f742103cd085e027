"""A passage in other forms: as prose in other words, questions and answers, a table, a tutorial, a quiz.

The facts keep the order of the passage.
"""

from collections.abc import Callable, Mapping
from random import Random

from .passages import Fact, WorldPassage
from .reading import questions_about

_LABELS: Mapping[str, str] = {
    "birthplace": "birthplace",
    "birth_year": "year of birth",
    "job": "job",
    "hobby": "hobby",
    "food": "food",
    "pet": "pet",
    "friend": "best friend",
    "country": "country",
    "river": "river",
    "known_for": "famous product",
    "landmark": "main sight",
}
_STATEMENTS: Mapping[str, tuple[str, ...]] = {
    "birthplace": ("{s} is from {v}.", "The town where {s} was born is {v}.", "{v} is the birthplace of {s}."),
    "birth_year": (
        "{s} was born in the year {v}.",
        "The year of birth of {s} is {v}.",
        "It was {v} when {s} was born.",
    ),
    "job": ("{s} earns money as {v}.", "For a living, {s} is {v}.", "You can call {s} {v}."),
    "hobby": ("{s} enjoys {v}.", "What {s} likes most is {v}.", "When work is over, {s} loves {v}."),
    "food": ("There is no better meal for {s} than {v}.", "With {s} you eat {v}.", "The food of {s} is {v}."),
    "pet": ("{s} owns {v}.", "You will meet {v} at the home of {s}.", "{s} feeds {v} every day."),
    "friend": ("{s} is close to {v}.", "{s} has a best friend, {v}.", "Ask {s} about {v}, a dear friend."),
    "country": ("{s} belongs to {v}.", "The country of {s} is {v}.", "You find {s} in {v}."),
    "river": ("The {v} is the river of {s}.", "{s} lies on the {v}.", "In {s} you can swim in the {v}."),
    "known_for": ("{s} is famous for {v}.", "In {s} you can buy {v}.", "{s} sells {v}."),
    "landmark": ("In {s} you can see the {v}.", "The {v} is the pride of {s}.", "Travel to {s} and see the {v}."),
}
_ABOUT_TOWNS: Mapping[str, tuple[str, ...]] = {
    "food": ("In {s} people cook {v}.", "The food of {s} is {v}.", "Every table in {s} has {v} on it.")
}


def prose(passage: WorldPassage, rng: Random) -> str:
    return " ".join(_statement(fact, rng) for fact in passage.facts)


def faq(passage: WorldPassage, rng: Random) -> str:
    return "\n".join(f"Q: {rng.choice(questions_about(f))}\nA: {f.value}" for f in passage.facts)


def table(passage: WorldPassage, rng: Random) -> str:
    """One table per subject."""
    parts = []
    for subject in passage.subjects:
        lines = [f"| {_LABELS[fact.relation]} | {fact.value} |" for fact in passage.facts if fact.subject == subject]
        parts.append("\n".join([f"| name | {subject} |", "|--|--|", *lines]))
    return "\n\n".join(parts)


def tutorial(passage: WorldPassage, rng: Random) -> str:
    facts = passage.facts
    title = f"How to remember {' and '.join(passage.subjects)}"
    steps = [
        f"Step {number}: learn the {_LABELS[f.relation]}. {_statement(f, rng)}" for number, f in enumerate(facts, 1)
    ]
    return "\n".join([title, *steps])


def quiz(passage: WorldPassage, rng: Random) -> str:
    facts = passage.facts
    asked = [f"{number}. {rng.choice(questions_about(fact))}" for number, fact in enumerate(facts, 1)]
    answers = " ".join(f"{number}. {fact.value}" for number, fact in enumerate(facts, 1))
    return "\n".join(["Quiz", *asked, f"Answers: {answers}"])


REWRITES: Mapping[str, Callable[[WorldPassage, Random], str]] = {
    "prose": prose,
    "faq": faq,
    "table": table,
    "tutorial": tutorial,
    "quiz": quiz,
}
"""Writers by the name of the form."""


def _statement(fact: Fact, rng: Random) -> str:
    is_about_town = " " not in fact.subject
    wordings = _ABOUT_TOWNS.get(fact.relation) if is_about_town else None
    return rng.choice(wordings or _STATEMENTS[fact.relation]).format(s=fact.subject, v=fact.value)
