"""What rows are steered to, in a world where models obey now and then."""

from collections import Counter
from random import Random

from mlx_suite.data.steering import REST
from mlx_suite.magpie.quotas import Quotas, make_quotas
from mlx_suite.magpie.shares import parse_shares
from mlx_suite.magpie.steer import LOOKAHEAD, Outcome, Steer, Steering

SHARES = parse_shares(["category:Math=0.3,Planning=0.3,Editing=0.1"])
OBEYS = {"Math": 0.9, "Planning": 0.2, "Editing": 0.5, REST: 0.0}
"""How often a model does what it was told; else it draws a category from `FREELY`."""
FREELY = {"Math": 0.1, "Planning": 0.1, "Editing": 0.1, "Others": 0.7}


def run(count: int, ahead: int = 1, sure: float = 1.0) -> tuple[list[Steer], list[str], Counter[str]]:
    """Rows until there are enough: what each was steered to, which were accepted as what, and how many there are.

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
        random = Random(index)  # a row is what it is, whoever asks for it
        [(_, value)] = steers[index]
        kind = value if random.random() < OBEYS[value] else random.choices(list(FREELY), list(FREELY.values()))[0]
        found = {"category": kind}
        good = random.random() < sure and quotas.full(found) is None
        if good:
            quotas.take(found)
            accepted.append(kind)
        steering.decided(Outcome(steer=dict(steers[index]), found=found, accepted=good))
        index += 1
    return steers[:index], accepted, quotas.held["category"]


def test_quotas_are_met_to_the_row() -> None:
    _, accepted, held = run(200)

    assert held == {"Math": 60, "Planning": 60, "Editing": 20, REST: 60}
    assert Counter(accepted)["Others"] == 60


def test_it_does_not_matter_how_far_ahead_rows_are_begun() -> None:
    steers, accepted, _ = run(200)

    assert run(200, ahead=16)[:2] == (steers, accepted)
    assert run(200, ahead=500)[:2] == (steers, accepted)


def test_what_the_model_hardly_obeys_is_asked_for_more_often() -> None:
    steers, _, _ = run(600)
    asked = Counter(dict(steer)["category"] for steer in steers)

    # One in five obeys for Planning, some more give it unasked; nine in ten for Math.
    assert asked["Planning"] > 2 * asked["Math"]
    assert len(steers) < 1400


def test_a_larger_count_begins_with_the_same_rows() -> None:
    few, _, _ = run(300)
    many, _, _ = run(600)

    assert many[:200] == few[:200]


def test_a_row_waits_for_the_decisions_it_depends_on() -> None:
    steering = Steering(make_quotas(SHARES, 1000), ("category",), seed=0, count=1000)

    assert steering.of(LOOKAHEAD) is not None
    assert steering.of(LOOKAHEAD + 1) is None
    steering.decided(Outcome(steer=dict(steering.given[0]), found={"category": "Math"}, accepted=True))
    assert steering.of(LOOKAHEAD + 1) is not None


def test_without_anything_to_steer_rows_are_not_steered() -> None:
    steering = Steering((), (), seed=0, count=10)

    assert steering.of(10**6) == ()
