"""Passages about people and towns of a population, with the facts that they state."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from .biography import Sentence, person_sentences, place_sentences, write_biography, write_place
from .lexicon import article
from .population import Population
from .world import Person, Place

Relation = Literal[
    "birthplace", "birth_year", "job", "hobby", "food", "pet", "friend", "country", "river", "known_for", "landmark"
]
PERSON_RELATIONS: tuple[Relation, ...] = ("birthplace", "birth_year", "job", "hobby", "food", "pet", "friend")
PLACE_RELATIONS: tuple[Relation, ...] = ("country", "river", "known_for", "food", "landmark")

KIND_SHARES = {"person": 5, "town": 2, "person and town": 2, "two people": 2}
"""Relative frequency of each kind of passage."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One statement: the `relation` of `subject` is `value`."""

    subject: str
    """Full name of a person or town."""
    relation: Relation
    value: str
    """As passages write it: `a baker`, `1962`, `old bridge`."""


@dataclass(frozen=True, kw_only=True)
class WorldPassage:
    """A text and everything that it says."""

    kind: str
    text: str
    facts: tuple[Fact, ...]
    """In the order in which the text states them."""

    def value(self, subject: str, relation: Relation) -> str | None:
        """What the passage says of a subject; None if it says nothing."""
        return next((f.value for f in self.facts if (f.subject, f.relation) == (subject, relation)), None)

    @property
    def subjects(self) -> tuple[str, ...]:
        """People and towns that the passage is about."""
        return tuple(dict.fromkeys(fact.subject for fact in self.facts))


def facts_of_person(person: Person) -> tuple[Fact, ...]:
    values = (
        person.birthplace,
        person.born_year,
        article(person.job),
        person.hobby,
        person.food,
        article(person.pet),
        person.friend,
    )
    return tuple(
        Fact(subject=person.name, relation=relation, value=value)
        for relation, value in zip(PERSON_RELATIONS, values, strict=True)
    )


def facts_of_town(town: Place) -> tuple[Fact, ...]:
    values = (town.country, town.river, town.known_for, town.food, town.landmark)
    return tuple(
        Fact(subject=town.name, relation=relation, value=value)
        for relation, value in zip(PLACE_RELATIONS, values, strict=True)
    )


def person_passage(person: Person, rng: Random) -> WorldPassage:
    """A biography, in wordings and an order of its own."""
    text = write_biography(person, rng)
    return WorldPassage(kind="person", text=text, facts=_as_stated(facts_of_person(person), text))


def town_passage(town: Place, rng: Random) -> WorldPassage:
    text = write_place(town, rng)
    return WorldPassage(kind="town", text=text, facts=_as_stated(facts_of_town(town), text))


def sample_passage(population: Population, rng: Random) -> WorldPassage:
    """A passage of a random kind about random members of the population."""
    [kind] = rng.choices(list(KIND_SHARES), weights=list(KIND_SHARES.values()))
    person = rng.choice(population.people)
    if kind == "person":
        return person_passage(person, rng)
    if kind == "town":
        return town_passage(rng.choice(population.towns), rng)
    if kind == "person and town":
        return _with_town(person, population.town(person.birthplace), rng)
    return _two_people(person, rng.choice([p for p in rng.sample(population.people, 2) if p != person]), rng)


def _with_town(person: Person, town: Place, rng: Random) -> WorldPassage:
    """Where a person was born, and where that is: questions about it take two steps."""
    about_person = _Part(facts_of_person(person), person_sentences(person, rng)[: rng.randint(2, 4)])
    about_town = _Part(facts_of_town(town), place_sentences(town, rng)[: rng.randint(2, 3)])
    return _joined("person and town", about_person, about_town)


def _two_people(one: Person, other: Person, rng: Random) -> WorldPassage:
    parts = [_Part(facts_of_person(each), person_sentences(each, rng)[: rng.randint(2, 4)]) for each in (one, other)]
    return _joined("two people", *parts)


@dataclass(frozen=True)
class _Part:
    """Facts about a subject, and the sentences that state some of them."""

    facts: tuple[Fact, ...]
    sentences: list[Sentence]


def _joined(kind: str, *parts: _Part) -> WorldPassage:
    texts = [" ".join(sentence.text for sentence in part.sentences) for part in parts]
    facts: list[Fact] = []
    for part, text in zip(parts, texts, strict=True):
        stated = {relation for sentence in part.sentences for relation in sentence.relations}
        facts += _as_stated([fact for fact in part.facts if fact.relation in stated], text)
    return WorldPassage(kind=kind, text=" ".join(texts), facts=tuple(facts))


def _as_stated(facts: Sequence[Fact], text: str) -> tuple[Fact, ...]:
    """The facts in the order of their values in the text."""
    return tuple(sorted(facts, key=lambda fact: text.index(fact.value)))
