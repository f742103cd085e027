"""People and towns for experiments, some of them held out from all training."""

import pytest

from mlx_suite.microworld.population import HELDOUT_NAME_ONE_IN, TOWN_NAMES, is_heldout_name, make_population
from mlx_suite.microworld.world import FULL_NAMES, PLACE_NAMES


def test_held_out_people_and_towns_are_in_no_other_population() -> None:
    usual, heldout = make_population(500, towns=100), make_population(500, towns=20, heldout=True)
    assert not {p.name for p in usual.people} & {p.name for p in heldout.people}
    assert not {t.name for t in usual.towns} & {t.name for t in heldout.towns}
    assert all(is_heldout_name(each.name) for each in (*heldout.people, *heldout.towns))


def test_the_people_of_the_shipped_chat_models_are_in_no_population() -> None:
    names = {person.name for person in make_population(2000).people}
    assert len(names) == 2000
    assert not names & set(FULL_NAMES)
    assert not set(TOWN_NAMES) & set(PLACE_NAMES)


def test_the_same_seed_gives_the_same_population() -> None:
    assert make_population(20, seed=3) == make_population(20, seed=3)
    assert make_population(20, seed=3) != make_population(20, seed=4)


def test_people_are_born_in_towns_of_the_population_and_are_not_their_own_friends() -> None:
    population = make_population(60, towns=5)
    towns = {town.name for town in population.towns}
    assert len(towns) == 5
    assert {person.birthplace for person in population.people} <= towns
    assert all(population.person(person.friend) != person for person in population.people)
    assert population.town(population.towns[0].name) == population.towns[0]


def test_a_tenth_of_the_town_names_is_held_out() -> None:
    heldout = sum(map(is_heldout_name, TOWN_NAMES))
    assert 0.5 < heldout * HELDOUT_NAME_ONE_IN / len(TOWN_NAMES) < 1.5


def test_more_people_than_names_are_refused() -> None:
    with pytest.raises(ValueError, match="but only"):
        make_population(5000, heldout=True)
