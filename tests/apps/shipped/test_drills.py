"""Drills: the second half can be predicted by attending to the first."""

import re
from collections import Counter
from random import Random

import pytest

from mlx_suite_apps.shipped.drills import write_drill, write_echo

PAIR = re.compile(
    r"(?P<belongs>\d+) belongs to (\w+)\."
    r"|The (\w+) is (\w+)\."
    r"|(\w+) has the (\w+)\."
    r"|(\w+) has (\d+)"
    r"|(\w+): (\w+)"
    r"|(\w+), (\w+),"
)


def pairs(text: str) -> list[str]:
    """The pairs of a text that consists of pairs only."""
    assert PAIR.sub("", text).strip(" \n") == "", text
    return [match.group() for match in PAIR.finditer(text)]


@pytest.fixture(scope="module")
def drills() -> list[tuple[str, str]]:
    rng = Random(0)
    return [write_drill(rng) for _ in range(1000)]


def test_every_pair_occurs_once_in_each_half(drills: list[tuple[str, str]]) -> None:
    for listed, again in drills:
        first, second = pairs(listed), pairs(again)
        assert Counter(first) == Counter(second)
        assert set(Counter(first).values()) == {1}
        assert 3 <= len(first) <= 6


def test_keys_are_distinct_so_that_the_continuation_is_unique(drills: list[tuple[str, str]]) -> None:
    for listed, _ in drills:
        keys = [re.findall(r"\w+", pair)[1 if pair.startswith("The ") else 0] for pair in pairs(listed)]
        assert len(keys) == len(set(keys)), listed


def test_half_of_the_drills_are_reordered(drills: list[tuple[str, str]]) -> None:
    same = sum(pairs(listed) == pairs(again) for listed, again in drills) / len(drills)
    assert 0.5 < same < 0.62  # some shuffles keep the order


def test_the_halves_are_joined_with_the_separator_of_the_pairs(drills: list[tuple[str, str]]) -> None:
    assert {again[0] for _, again in drills} == {"\n", " "}
    for listed, again in drills:
        between = again[0]
        assert len((listed + again).split(between if between == "\n" else "\0")) in ({2 * len(pairs(listed)), 1})


def test_all_forms_occur_and_drills_are_reproducible(drills: list[tuple[str, str]]) -> None:
    shapes = Counter(re.sub(r"\d+", "9", re.sub(r"[A-Za-z]+", "w", pairs(listed)[0])) for listed, _ in drills)
    assert set(shapes) == {"w: 9", "w w 9", "w w w w.", "w: w", "9 w w w.", "w, w,"}
    assert all(count > 60 for count in shapes.values())
    assert [write_drill(Random(3)) for _ in range(2)] == [write_drill(Random(3))] * 2


def test_an_echo_is_8_to_24_words_repeated() -> None:
    rng = Random(0)
    echoes = [write_echo(rng) for _ in range(500)]
    assert {len(listed.split(" ")) for listed, _ in echoes} == set(range(8, 25))
    assert all(again == f" {listed}" for listed, again in echoes)
    assert len({listed for listed, _ in echoes}) == 500
    assert [write_echo(Random(3)) for _ in range(2)] == [write_echo(Random(3))] * 2
