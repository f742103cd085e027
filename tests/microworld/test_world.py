import dataclasses

import pytest

from mlx_suite.microworld import make_world
from mlx_suite.microworld.world import FULL_NAMES, PLACE_NAMES


def test_the_default_world_has_these_facts() -> None:
    world = make_world()
    ada = world.person("Ada Reed")
    assert (ada.born_year, ada.birthplace, ada.job) == ("1973", "Stonehill", "baker")
    assert (ada.hobby, ada.food, ada.pet, ada.friend) == ("sailing", "soup", "rabbit", "Henry Nash")
    oakford = world.place("Oakford")
    assert (oakford.country, oakford.river, oakford.known_for) == ("Ostia", "Gilda", "glass")
    assert (oakford.food, oakford.landmark) == ("fish", "long wall")


def test_the_world_depends_on_its_seed_alone() -> None:
    assert make_world(3) == make_world(3)
    assert make_world(3).people != make_world(4).people
    assert set(make_world(3).people) == set(make_world(4).people)


def test_there_are_sixty_people_and_twenty_places_with_distinct_names() -> None:
    assert len(set(FULL_NAMES)) == 60
    assert len({name.split()[0] for name in FULL_NAMES}) == 60
    assert len(set(PLACE_NAMES)) == 20


def test_friendship_is_mutual_and_between_inhabitants() -> None:
    world = make_world()
    for person in world.people.values():
        assert person.friend != person.name
        assert world.person(person.friend).friend == person.name


def test_every_birthplace_is_a_place_of_the_world() -> None:
    world = make_world()
    assert {person.birthplace for person in world.people.values()} <= set(world.places)


def test_every_value_is_ascii() -> None:
    world = make_world()
    people = [dataclasses.astuple(person) for person in world.people.values()]
    places = [dataclasses.astuple(place) for place in world.places.values()]
    assert all(value.isascii() for values in people + places for value in values)


def test_facts_are_immutable() -> None:
    ada = make_world().person("Ada Reed")
    with pytest.raises(dataclasses.FrozenInstanceError):
        ada.job = "pilot"  # type: ignore[misc]


def test_an_unknown_person_is_refused() -> None:
    with pytest.raises(KeyError):
        make_world().person("Nobody Atall")
