from random import Random

from mlx_suite.microworld import make_world, write_biography, write_place

EXPECTED_ADA = (
    "Ada Reed comes from Stonehill. Ada was born in 1973. The job of Ada is to be a baker."
    " Ada often visits a good friend, Henry Nash. Ada likes sailing. Ada eats soup most of"
    " all. Ada takes care of a rabbit."
)


def test_a_biography_with_a_fixed_seed_reads_like_this() -> None:
    ada = make_world().person("Ada Reed")
    assert write_biography(ada, Random(0)) == EXPECTED_ADA


def test_a_biography_states_every_fact_of_the_person() -> None:
    rng = Random(1)
    for person in make_world().people.values():
        text = write_biography(person, rng)
        for fact in (
            person.name,
            person.born_year,
            person.birthplace,
            person.job,
            person.hobby,
            person.food,
            person.pet,
            person.friend,
        ):
            assert fact in text


def test_a_description_states_every_fact_of_the_place() -> None:
    rng = Random(1)
    for place in make_world().places.values():
        text = write_place(place, rng)
        for fact in (place.name, place.country, place.river, place.known_for, place.food, place.landmark):
            assert fact in text


def test_texts_have_25_to_60_words() -> None:
    rng, world = Random(2), make_world()
    for _ in range(20):
        for person in world.people.values():
            assert 25 <= len(write_biography(person, rng).split()) <= 60
        for place in world.places.values():
            assert 25 <= len(write_place(place, rng).split()) <= 60


def test_two_hundred_biographies_of_one_person_are_almost_all_distinct() -> None:
    rng, ada = Random(3), make_world().person("Ada Reed")
    assert len({write_biography(ada, rng) for _ in range(200)}) > 190


def test_no_template_field_is_left_unfilled() -> None:
    rng, world = Random(4), make_world()
    for person in world.people.values():
        assert "{" not in write_biography(person, rng)
    for place in world.places.values():
        assert "{" not in write_place(place, rng)
