"""Populations: as many people and towns as an experiment needs, some of them never used for training.

The sixty people of `world.make_world` are what the shipped chat models know by heart. A model that is to read needs
passages about people it has never met, so here names are combined from lists and facts are drawn for each.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from random import Random

from .world import (
    FIRST_NAMES,
    FOODS,
    FULL_NAMES,
    HOBBIES,
    JOBS,
    LAST_NAMES,
    PETS,
    PLACE_NAMES,
    YEARS,
    Person,
    Place,
    draw_place,
)

GIVEN_NAMES = (
    *FIRST_NAMES,
    *(
        "Agnes Albert Alma Arthur Axel Bertha Bruno Cecil Celia Conrad Daisy Dennis Edith Edgar Elsa Emil Esther Ezra "
        "Flora Fred Georg Gerda Harold Hazel Hector Helga Irma Isaac Ivan Jasper Joan Jules Judith Kira Klaus Laura "
        "Linus Lotte Lydia Magda Marcus Martha Max Mona Moritz Nadia Nils Otto Oliver Pia Philip Regina Robin Roman "
        "Ruth Selma Simon Stella Theo Thora"
    ).split(),
)
FAMILY_NAMES = (
    *LAST_NAMES,
    *(
        "Abbot Archer Baker Barlow Birch Bishop Blake Bolt Bond Brand Burke Carver Chase Clay Cross Crane Drake Dunn "
        "Finch Flint Forest Foster Frost Gale Glass Grant Green Hale Hardy Hawk Hayes Holt Hunt Hyde Jarvis Keane Knox "
        "Lamb Law Lock Marsh Mason Meadow Mercer Mill Moor Nolan North Oakes Parry Pike Poole Price Quill Rand Rowe "
        "Sharp Stark Swift Thorne"
    ).split(),
)
_TOWN_BEGINNINGS = (
    "Oak River Mill Stone Green Ash North East Red Low High Bright Fox Elm Silver Mar Tarn Win Kel Dun Black Brook "
    "Clay Copper Deer Ember Fern Gold Hazel Iron"
).split()
_TOWN_ENDINGS = (
    "ford ton bay hill port wick ham vale moor field gate sea ley wood bury by mere dale bridge cross".split()
)
TOWN_NAMES = tuple(begin + end for begin in _TOWN_BEGINNINGS for end in _TOWN_ENDINGS if begin + end not in PLACE_NAMES)
HELDOUT_NAME_ONE_IN = 10


def is_heldout_name(name: str) -> bool:
    """Whether a person or town is one of the 10 % that no training data mentions; the choice never changes."""
    digest = hashlib.sha1(name.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big") % HELDOUT_NAME_ONE_IN == 0


@dataclass(frozen=True, kw_only=True)
class Population:
    """People and the towns they come from."""

    people: tuple[Person, ...]
    towns: tuple[Place, ...]

    def town(self, name: str) -> Place:
        """The town with that name. Raises KeyError if there is none."""
        return self._towns_by_name[name]

    def person(self, name: str) -> Person:
        """The person with that full name. Raises KeyError if there is none."""
        return self._people_by_name[name]

    @cached_property
    def _towns_by_name(self) -> dict[str, Place]:
        return {town.name: town for town in self.towns}

    @cached_property
    def _people_by_name(self) -> dict[str, Person]:
        return {person.name: person for person in self.people}


def make_population(people: int, *, seed: int = 0, towns: int = 60, heldout: bool = False) -> Population:
    """Draw `people` and `towns` with distinct names; either all names are held out from training or none is.

    Friends are people of the same population. Raises ValueError if there are not enough names.
    """
    rng = Random(f"population {seed} {heldout}")
    known = frozenset(FULL_NAMES)
    names = [
        name
        for name in (f"{given} {family}" for given in GIVEN_NAMES for family in FAMILY_NAMES)
        if name not in known and is_heldout_name(name) is heldout
    ]
    town_names = [name for name in TOWN_NAMES if is_heldout_name(name) is heldout]
    if people > len(names):
        raise ValueError(f"{people} people, but only {len(names)} names")
    chosen = rng.sample(names, people)
    places = tuple(draw_place(name, rng) for name in rng.sample(town_names, min(towns, len(town_names))))
    inhabitants = tuple(
        Person(
            name=name,
            born_year=rng.choice(YEARS),
            birthplace=rng.choice(places).name,
            job=rng.choice(JOBS),
            hobby=rng.choice(HOBBIES),
            food=rng.choice(FOODS),
            pet=rng.choice(PETS),
            friend=rng.choice([other for other in rng.sample(chosen, min(2, people)) if other != name] or [name]),
        )
        for name in chosen
    )
    return Population(people=inhabitants, towns=places)
