"""Parsing and counting of quotas, and steering towards them with a model that obeys only sometimes."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_suite.data.steering import REST
from mlx_suite.magpie import MagpieSettings
from mlx_suite.magpie.steering import (
    LOOKAHEAD,
    Quotas,
    Shares,
    Steer,
    Steering,
    SteeringOutcome,
    equal_shares,
    make_quotas,
    parse_shares,
)
from mlx_suite.runtime.errors import UserError


def rows(text: str, count: int) -> dict[str, int]:
    [shares] = parse_shares([text])
    return shares.rows(count)


def test_shares_are_fractions_of_the_rows_and_the_rest_gets_what_remains() -> None:
    assert rows("category:Math=0.3,Coding & Debugging=0.3", 100) == {"Math": 30, "Coding & Debugging": 30, REST: 40}
    assert rows("language:English=1", 7) == {"English": 7}
    assert rows("category:Math=0.5,*=0.5", 3) == {"Math": 2, REST: 1}
    assert rows("topic:boats=60,birds=20", 100) == {"boats": 60, "birds": 20, REST: 20}


def test_shares_are_rounded_by_largest_remainder() -> None:
    assert rows("topic:a=0.5,b=0.3,c=0.2", 7) == {"a": 4, "b": 2, "c": 1}  # 3.5, 2.1, 1.4
    thirds = equal_shares("topic", ["a", "b", "c", "a"], None, 10)
    assert thirds.rows(10) == {"a": 4, "b": 3, "c": 3}


def test_topics_without_a_share_divide_the_rest_equally() -> None:
    settings = MagpieSettings(count=100, topics=("a", "b", "c"), quotas=("topic:a=0.5",))
    [shares] = settings.shares

    assert shares.rows(100) == {"a": 50, "b": 25, "c": 25}


def test_a_dimension_may_be_spread_over_several_flags() -> None:
    [category, language] = parse_shares(["category:Math=0.3", "language:English=1", "category:Planning=0.2"])

    assert category == Shares(dimension="category", parts={"Math": 0.3, "Planning": 0.2})
    assert language.parts == {"English": 1.0}


def test_every_part_that_cannot_be_parsed_is_listed() -> None:
    with pytest.raises(UserError) as caught:
        parse_shares(["categry:Math=0.3", "where", "topic:a=b,c=0", "language:", "persona:a=0.1,a=0.2", "topic:d=2.5"])

    assert caught.value.details == (
        "'categry:Math=0.3': did you mean category?",
        "'where': start with one of category, difficulty, language, topic, persona and a colon",
        "'a=b' of topic: expected VALUE=SHARE, each value once",
        "'c=0' of topic: expected VALUE=SHARE, each value once",
        "'topic:a=b,c=0' names no value",
        "'language:' names no value",
        "'a=0.2' of persona: expected VALUE=SHARE, each value once",
        "'d=2.5' of topic: expected VALUE=SHARE, each value once",
        "'topic:d=2.5' names no value",
    )


def test_mixing_shares_and_rows_in_one_dimension_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        parse_shares(["category:Math=0.5,Reasoning=30", "topic:boats=60,birds=1", "language:English=1"])

    assert caught.value.details == (
        "category: Math=0.5 is a share and Reasoning=30 a number of rows; use one or the other",
    )


def test_shares_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(UserError) as caught:
        MagpieSettings(
            count=10, quotas=("category:Math=0.7,Planning=0.4", "topic:a=8,b=4", "language:German=0.2,*=0.3")
        )

    assert caught.value.details == (
        "category: the shares sum to 1.1, more than 1",
        "topic: the shares sum to 12, more than 10 rows",
        "language: the shares sum to 0.5 with the rest, less than 1",
    )


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(1, 500))
def test_rounded_rows_always_sum_to_the_count(weights: list[int], count: int) -> None:
    total = sum(weights) + 3
    shares = Shares(dimension="topic", parts={str(i): weight / total for i, weight in enumerate(weights)})
    found = shares.rows(count)

    assert sum(found.values()) == count
    assert all(abs(found[value] - part * count) < 1 for value, part in shares.parts.items())


SHARES = parse_shares(["category:Math=0.3,Planning=0.3,Editing=0.1"])
OBEYS = {"Math": 0.9, "Planning": 0.2, "Editing": 0.5, REST: 0.0}
"""Probability that the model does what it was prompted for; otherwise it draws from `UNPROMPTED`."""
UNPROMPTED = {"Math": 0.1, "Planning": 0.1, "Editing": 0.1, "Others": 0.7}


def run(count: int, ahead: int = 1) -> tuple[list[Steer], list[str], Counter[str]]:
    """Simulate rows until `count` are accepted; returns their steering, the accepted categories, and the quota counts.

    `ahead` rows are steered before the first of them is decided.
    """
    quotas = Quotas(quotas=make_quotas(SHARES, count))
    steering = Steering(quotas.quotas, ("category",), seed=1, count=count)
    steers: list[Steer] = []
    accepted: list[str] = []
    index = 0
    while len(accepted) < count:
        while len(steers) < index + ahead:
            steer = steering.of(len(steers))
            if steer is None:
                break
            steers.append(steer)
        random = Random(index)  # a row's outcome depends on its number alone
        [(_, value)] = steers[index]
        obeys = random.random() < OBEYS[value]
        category = value if obeys else random.choices(list(UNPROMPTED), list(UNPROMPTED.values()))[0]
        labels = {"category": category}
        is_accepted = quotas.full(labels) is None
        if is_accepted:
            quotas.add(labels)
            accepted.append(category)
        steering.record(SteeringOutcome(steer=dict(steers[index]), labels=labels, accepted=is_accepted))
        index += 1
    return steers[:index], accepted, quotas.accepted["category"]


def test_quotas_are_met_exactly() -> None:
    _, accepted, counts = run(200)

    assert counts == {"Math": 60, "Planning": 60, "Editing": 20, REST: 60}
    assert Counter(accepted)["Others"] == 60


def test_steering_does_not_depend_on_how_far_ahead_rows_start() -> None:
    steers, accepted, _ = run(200)

    assert run(200, ahead=16)[:2] == (steers, accepted)
    assert run(200, ahead=500)[:2] == (steers, accepted)


def test_a_value_the_model_rarely_gives_is_prompted_more_often() -> None:
    steers, _, _ = run(600)
    prompted = Counter(dict(steer)["category"] for steer in steers)

    # The model obeys one Planning prompt in five, nine Math prompts in ten.
    assert prompted["Planning"] > 2 * prompted["Math"]
    assert len(steers) < 1400


def test_a_larger_count_starts_with_the_same_steering() -> None:
    few, _, _ = run(300)
    many, _, _ = run(600)

    assert many[:200] == few[:200]


def test_a_row_waits_for_the_decisions_its_steering_depends_on() -> None:
    steering = Steering(make_quotas(SHARES, 1000), ("category",), seed=0, count=1000)

    assert steering.of(LOOKAHEAD) is not None
    assert steering.of(LOOKAHEAD + 1) is None
    steering.record(SteeringOutcome(steer=dict(steering.assigned[0]), labels={"category": "Math"}, accepted=True))
    assert steering.of(LOOKAHEAD + 1) is not None


def test_rows_are_not_steered_without_quotas() -> None:
    steering = Steering((), (), seed=0, count=10)

    assert steering.of(10**6) == ()
