"""Drills: what is told again can be known by whoever looks back."""

import re
from collections import Counter
from random import Random

import pytest

from mlx_suite.pretrain.drills import write_drill, write_echo

PAIR = re.compile(
    r"(?P<belongs>\d+) belongs to (\w+)\."
    r"|The (\w+) is (\w+)\."
    r"|(\w+) has the (\w+)\."
    r"|(\w+) has (\d+)"
    r"|(\w+): (\w+)"
    r"|(\w+), (\w+),"
)


def pairs(text: str) -> list[str]:
    """The pairs of a text, which is made of nothing else."""
    assert PAIR.sub("", text).strip(" \n") == "", text
    return [match.group() for match in PAIR.finditer(text)]


@pytest.fixture(scope="module")
def drills() -> list[tuple[str, str]]:
    rng = Random(0)
    return [write_drill(rng) for _ in range(1000)]


def test_every_pair_is_told_twice_once_in_each_half(drills: list[tuple[str, str]]) -> None:
    for told, again in drills:
        first, second = pairs(told), pairs(again)
        assert Counter(first) == Counter(second)
        assert set(Counter(first).values()) == {1}
        assert 3 <= len(first) <= 6


def test_a_key_names_one_value_so_that_there_is_one_right_continuation(drills: list[tuple[str, str]]) -> None:
    for told, _ in drills:
        keys = [re.findall(r"\w+", pair)[1 if pair.startswith("The ") else 0] for pair in pairs(told)]
        assert len(keys) == len(set(keys)), told


def test_half_of_the_drills_change_the_order(drills: list[tuple[str, str]]) -> None:
    same = sum(pairs(told) == pairs(again) for told, again in drills) / len(drills)
    assert 0.5 < same < 0.62  # a new order is the old one now and then


def test_the_halves_join_with_what_stands_between_all_pairs(drills: list[tuple[str, str]]) -> None:
    assert {again[0] for _, again in drills} == {"\n", " "}
    for told, again in drills:
        between = again[0]
        assert len((told + again).split(between if between == "\n" else "\0")) in ({2 * len(pairs(told)), 1})


def test_all_seven_forms_occur_and_the_same_seed_writes_the_same(drills: list[tuple[str, str]]) -> None:
    shapes = Counter(re.sub(r"\d+", "9", re.sub(r"[A-Za-z]+", "w", pairs(told)[0])) for told, _ in drills)
    assert set(shapes) == {"w: 9", "w w 9", "w w w w.", "w: w", "9 w w w.", "w, w,"}
    assert all(count > 60 for count in shapes.values())
    assert [write_drill(Random(3)) for _ in range(2)] == [write_drill(Random(3))] * 2


def test_an_echo_is_8_to_24_words_and_the_same_words_again() -> None:
    rng = Random(0)
    echoes = [write_echo(rng) for _ in range(500)]
    assert {len(told.split(" ")) for told, _ in echoes} == set(range(8, 25))
    assert all(again == f" {told}" for told, again in echoes)
    assert len({told for told, _ in echoes}) == 500
    assert [write_echo(Random(3)) for _ in range(2)] == [write_echo(Random(3))] * 2
