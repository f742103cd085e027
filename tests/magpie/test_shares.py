"""Quotas as they are written, and the rows they come to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.data.steering import REST
from mlx_suite.magpie import MagpieSettings
from mlx_suite.magpie.shares import Shares, equal_shares, parse_shares
from mlx_suite.runtime.errors import UserError


def rows(text: str, count: int) -> dict[str, int]:
    [shares] = parse_shares([text])
    return shares.rows(count)


def test_shares_are_of_the_rows_and_what_is_left_is_the_rest() -> None:
    assert rows("category:Math=0.3,Coding & Debugging=0.3", 100) == {"Math": 30, "Coding & Debugging": 30, REST: 40}
    assert rows("language:English=1", 7) == {"English": 7}
    assert rows("category:Math=0.5,*=0.5", 3) == {"Math": 2, REST: 1}
    assert rows("topic:boats=60,birds=20", 100) == {"boats": 60, "birds": 20, REST: 20}


def test_shares_are_rounded_by_largest_remainder() -> None:
    assert rows("topic:a=0.5,b=0.3,c=0.2", 7) == {"a": 4, "b": 2, "c": 1}  # 3.5, 2.1, 1.4
    thirds = equal_shares("topic", ["a", "b", "c", "a"], None, 10)
    assert thirds.rows(10) == {"a": 4, "b": 3, "c": 3}


def test_topics_without_a_share_have_the_same_of_what_is_left() -> None:
    settings = MagpieSettings(count=100, topics=("a", "b", "c"), quotas=("topic:a=0.5",))
    [shares] = settings.shares

    assert shares.rows(100) == {"a": 50, "b": 25, "c": 25}


def test_one_dimension_may_be_written_in_parts() -> None:
    [category, language] = parse_shares(["category:Math=0.3", "language:English=1", "category:Planning=0.2"])

    assert category == Shares(dimension="category", parts={"Math": 0.3, "Planning": 0.2})
    assert language.parts == {"English": 1.0}


def test_everything_that_cannot_be_read_is_named() -> None:
    with pytest.raises(UserError) as caught:
        parse_shares(["categry:Math=0.3", "where", "topic:a=b,c=0", "language:", "persona:a=0.1,a=0.2", "topic:d=2.5"])

    assert caught.value.details == (
        "'categry:Math=0.3': did you mean category?",
        "'where': begin with one of category, difficulty, language, topic, persona and a colon",
        "'a=b' of topic: expected VALUE=SHARE, each value once",
        "'c=0' of topic: expected VALUE=SHARE, each value once",
        "'topic:a=b,c=0' names no value",
        "'language:' names no value",
        "'a=0.2' of persona: expected VALUE=SHARE, each value once",
        "'d=2.5' of topic: expected VALUE=SHARE, each value once",
        "'topic:d=2.5' names no value",
    )


def test_a_share_beside_a_number_of_rows_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        parse_shares(["category:Math=0.5,Reasoning=30", "topic:boats=60,birds=1", "language:English=1"])

    assert caught.value.details == (
        "category: Math=0.5 is a share and Reasoning=30 a number of rows; write one or the other",
    )


def test_more_than_there_is_cannot_be_had() -> None:
    with pytest.raises(UserError) as caught:
        MagpieSettings(
            count=10, quotas=("category:Math=0.7,Planning=0.4", "topic:a=8,b=4", "language:German=0.2,*=0.3")
        )

    assert caught.value.details == (
        "category: the shares come to 1.1, more than 1",
        "topic: the shares come to 12, more than 10 rows",
        "language: the shares come to 0.5 with the rest, less than 1",
    )


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(1, 500))
def test_rows_always_add_up(weights: list[int], count: int) -> None:
    total = sum(weights) + 3
    shares = Shares(dimension="topic", parts={str(i): weight / total for i, weight in enumerate(weights)})
    found = shares.rows(count)

    assert sum(found.values()) == count
    assert all(abs(found[value] - part * count) < 1 for value, part in shares.parts.items())
