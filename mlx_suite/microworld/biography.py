"""Prose descriptions of people and places, each sentence in several wordings and in random order."""

from dataclasses import dataclass
from random import Random

from .lexicon import article
from .world import Person, Place

_PERSON_SENTENCES = (
    (
        "{first} works as {job}.",
        "{first} is {job}.",
        "By trade, {first} is {job}.",
        "The job of {first} is to be {job}.",
        "Every day {first} works as {job}.",
    ),
    (
        "{first} likes {hobby}.",
        "The hobby of {first} is {hobby}.",
        "In free time, {first} enjoys {hobby}.",
        "On Sunday {first} loves {hobby}.",
        "{first} spends the weekend {hobby}.",
    ),
    (
        "The favorite food of {first} is {food}.",
        "{first} likes to eat {food}.",
        "{first} eats {food} most of all.",
        "No food is better than {food}, says {first}.",
        "For dinner {first} wants {food}.",
    ),
    (
        "{first} has {pet}.",
        "At home {first} keeps {pet}.",
        "The pet of {first} is {pet}.",
        "{first} lives with {pet}.",
        "{first} takes care of {pet}.",
    ),
    (
        "The best friend of {first} is {friend}.",
        "{first} and {friend} are best friends.",
        "{friend} is the best friend of {first}.",
        "{first} often visits a good friend, {friend}.",
        "A close friend of {first} is {friend}.",
    ),
)
_PERSON_OPENINGS = (
    "{name} was born in {birthplace} in {year}.",
    "In {year}, {name} was born in {birthplace}.",
    "{name}, born in {year}, comes from {birthplace}.",
    "{name} comes from {birthplace}. {first} was born in {year}.",
    "This is {name}. {first} was born in {year} in {birthplace}.",
    "Born in {birthplace} in {year}, {name} is well known there.",
)
_PLACE_OPENINGS = (
    "{name} is a town in {country}.",
    "The town of {name} lies in {country}.",
    "In {country} there is a town called {name}.",
    "{name} can be found in {country}.",
    "A small town in {country} is {name}.",
)
_PLACE_SENTENCES = (
    (
        "{name} stands on the river {river}.",
        "The river {river} flows through {name}.",
        "The river of {name} is the {river}.",
        "Through the town flows the river {river}.",
        "Boats on the river {river} stop in {name}.",
    ),
    (
        "{name} is known for its {product}.",
        "People know {name} for its {product}.",
        "Its {product} made {name} famous.",
        "Many come to {name} to buy its {product}.",
        "The pride of {name} is its {product}.",
    ),
    (
        "The usual food in {name} is {food}.",
        "People in {name} like to eat {food}.",
        "In {name} everyone eats {food}.",
        "Visitors to {name} should try the {food}.",
        "The best food in {name} is {food}.",
    ),
    (
        "Visitors see the {landmark} of {name}.",
        "The main sight of {name} is the {landmark}.",
        "In the middle of {name} is the {landmark}.",
        "Do not miss the {landmark} in {name}.",
        "Everyone in {name} loves the {landmark}.",
    ),
)


_PERSON_RELATIONS = ("job", "hobby", "food", "pet", "friend")
"""What each group of `_PERSON_SENTENCES` states."""
_PLACE_RELATIONS = ("river", "known_for", "food", "landmark")


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A sentence, or two, and the relations whose values it states."""

    text: str
    relations: tuple[str, ...]


def person_sentences(person: Person, rng: Random) -> list[Sentence]:
    """All facts about a person: birth first, the rest in random order."""
    values = {
        "name": person.name,
        "first": person.first,
        "year": person.born_year,
        "birthplace": person.birthplace,
        "job": article(person.job),
        "hobby": person.hobby,
        "food": person.food,
        "pet": article(person.pet),
        "friend": person.friend,
    }
    opening = rng.choice(_PERSON_OPENINGS).format_map(values)
    first = Sentence(text=opening, relations=("birthplace", "birth_year"))
    return [first, *_shuffled(_PERSON_SENTENCES, _PERSON_RELATIONS, values, rng)]


def place_sentences(place: Place, rng: Random) -> list[Sentence]:
    """All facts about a town: country first, the rest in random order."""
    values = {
        "name": place.name,
        "country": place.country,
        "river": place.river,
        "product": place.known_for,
        "food": place.food,
        "landmark": place.landmark,
    }
    first = Sentence(text=rng.choice(_PLACE_OPENINGS).format_map(values), relations=("country",))
    return [first, *_shuffled(_PLACE_SENTENCES, _PLACE_RELATIONS, values, rng)]


def write_biography(person: Person, rng: Random) -> str:
    """All facts about a person in 25-60 words: birth first, the rest in random order."""
    return " ".join(sentence.text for sentence in person_sentences(person, rng))


def write_place(place: Place, rng: Random) -> str:
    """All facts about a town in 25-60 words: country first, the rest in random order."""
    return " ".join(sentence.text for sentence in place_sentences(place, rng))


def _shuffled(
    sentences: tuple[tuple[str, ...], ...], relations: tuple[str, ...], values: dict[str, str], rng: Random
) -> list[Sentence]:
    drawn = [
        Sentence(text=rng.choice(wordings).format_map(values), relations=(relation,))
        for wordings, relation in zip(sentences, relations, strict=True)
    ]
    rng.shuffle(drawn)
    return drawn
