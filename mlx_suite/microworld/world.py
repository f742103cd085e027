"""The facts of the microworld: sixty people and twenty places, drawn once from a seed."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

FIRST_NAMES = tuple(
    "Ada Ben Carla David Emma Felix Grace Henry Ivy Jack Kate Leo Maria Noah Olga Paul Quinn Rosa "
    "Sam Tina Uma Victor Wendy Xavier Yara Zoe Adam Bella Clara Daniel Eva Frank Greta Hugo Ines "
    "Jonas Karin Lucas Mila Nina Oscar Petra Ralph Sara Tom Ursula Vera Walter Anna Boris Cora "
    "Dora Erik Fiona Gus Hanna Igor Julia Karl Lena".split()
)
LAST_NAMES = tuple(
    "Reed Stone Hill Wood Field Brook Lake Cook Ward Page Bell Cole Dale Ford Gray Hart King Lane "
    "Moss Nash Park Rose Shaw Todd Vale West York Fox Snow Berg".split()
)
FULL_NAMES = tuple(
    f"{first} {LAST_NAMES[(7 * index + index // 30) % len(LAST_NAMES)]}" for index, first in enumerate(FIRST_NAMES)
)
PLACE_NAMES = tuple(
    "Oakford Riverton Millbay Stonehill Greenport Ashwick Northam Eastvale Redmoor Lowfield "
    "Highgate Brightsea Foxley Elmwood Silverton Marbury Tarnby Winford Kelso Dunmere".split()
)
COUNTRIES = ("Norland", "Sudria", "Westria", "Ostia", "Marland", "Belora")
RIVERS = ("Alba", "Bruna", "Corva", "Drina", "Elva", "Fenna", "Gilda", "Harra", "Isla", "Jorda")
JOBS = (
    "baker teacher doctor farmer painter pilot nurse sailor singer gardener writer tailor fisher builder driver".split()
)
HOBBIES = (
    "painting swimming reading fishing dancing cooking singing cycling running sailing knitting "
    "drawing gardening hiking skating".split()
)
FOODS = "soup bread cheese rice fish pasta salad cake honey pancakes potatoes beans eggs pie noodles".split()
PETS = "dog cat parrot rabbit horse goat turtle hamster duck mouse".split()
PRODUCTS = "glass wool paper silk clocks boats pottery wine salt shoes apples music".split()
LANDMARKS = (
    "old bridge",
    "stone tower",
    "white castle",
    "big market",
    "round church",
    "green park",
    "tall lighthouse",
    "red mill",
    "long wall",
    "quiet harbor",
    "town museum",
    "silver fountain",
)
YEARS = tuple(str(year) for year in range(1950, 2000))


@dataclass(frozen=True, kw_only=True)
class Person:
    """One inhabitant; `birthplace` and `friend` are names of a `Place` and another `Person`."""

    name: str
    born_year: str
    birthplace: str
    job: str
    hobby: str
    food: str
    pet: str
    friend: str

    @property
    def first(self) -> str:
        return self.name.split()[0]


@dataclass(frozen=True, kw_only=True)
class Place:
    """One town with the facts that can be asked about it."""

    name: str
    country: str
    river: str
    known_for: str
    food: str
    landmark: str


@dataclass(frozen=True, kw_only=True)
class World:
    """All people and places, by name."""

    seed: int
    people: Mapping[str, Person]
    places: Mapping[str, Place]

    def person(self, name: str) -> Person:
        """The person with that full name. Raises KeyError if there is none."""
        return self.people[name]

    def place(self, name: str) -> Place:
        """The town with that name. Raises KeyError if there is none."""
        return self.places[name]


def draw_place(name: str, rng: Random) -> Place:
    """A town of that name with random facts."""
    return Place(
        name=name,
        country=rng.choice(COUNTRIES),
        river=rng.choice(RIVERS),
        known_for=rng.choice(PRODUCTS),
        food=rng.choice(FOODS),
        landmark=rng.choice(LANDMARKS),
    )


def _friends(rng: Random) -> dict[str, str]:
    """Pair people so that friendship is mutual."""
    shuffled = list(FULL_NAMES)
    rng.shuffle(shuffled)
    pairs = list(zip(shuffled[::2], shuffled[1::2], strict=True))
    return dict(pairs) | {right: left for left, right in pairs}


def make_world(seed: int = 0) -> World:
    """The world of a seed: names are always the same, facts depend on the seed."""
    rng = Random(seed)
    places = {name: draw_place(name, rng) for name in PLACE_NAMES}
    friends = _friends(rng)
    people = {
        name: Person(
            name=name,
            born_year=rng.choice(YEARS),
            birthplace=rng.choice(PLACE_NAMES),
            job=rng.choice(JOBS),
            hobby=rng.choice(HOBBIES),
            food=rng.choice(FOODS),
            pet=rng.choice(PETS),
            friend=friends[name],
        )
        for name in FULL_NAMES
    }
    return World(seed=seed, people=MappingProxyType(people), places=MappingProxyType(places))
