"""The number of slots and the capacity of the KV caches follow the load, and no text depends on them."""

from collections.abc import Iterator

import pytest

from mlx_suite.engine import Engine, Given, Program, Request, Sample, Sampling, Written
from mlx_suite.engine.slot_count import PATIENCE, rounded_up
from tests.engine.scripted import CHAIN, ScriptedModel, outcomes, upto
from tests.engine.small_models import prompt_of, small_gemma, small_llama

MODELS = {"llama": small_llama, "gemma with a window of 8": small_gemma}


def text(length: int, limit: int, seed: int = 0) -> Program:
    yield Given(prompt_of(length, seed))
    written: Written = yield Sample(limit=limit, stop=frozenset(), sampling=Sampling(temperature=1.0))
    return written.tokens


def request(length: int, limit: int, seed: int) -> Request:
    return Request(program=text(length, limit, seed), seed=seed)


def test_slots_are_opened_in_powers_of_two_up_to_the_maximum() -> None:
    assert [rounded_up(programs, 12) for programs in (1, 2, 3, 4, 5, 8, 9, 12)] == [1, 2, 4, 4, 8, 8, 12, 12]


def arriving(engine: Engine, *waves: tuple[int, list[Request]]) -> Iterator[Request | None]:
    """Requests that arrive after the given numbers of decode steps."""
    for step, wave in waves:
        while engine.stats.steps < step:
            yield None
        yield from wave


def test_slots_are_opened_when_requests_arrive_and_dropped_when_they_have_gone() -> None:
    engine = Engine(ScriptedModel({10: 10}), slots=8)
    counts: list[int] = []

    def program(limit: int) -> Program:
        return outcomes(Given((10,)), upto(limit))

    crowd = [Request(program=program(20), seed=seed) for seed in range(5)]
    requests = arriving(engine, (0, [Request(program=program(300))]), (50, crowd), (290, []))
    for done in engine.steps(requests):
        if done is None:
            counts.append(len(engine.states))

    changes = [count for before, count in zip([0, *counts], counts, strict=False) if count != before]
    assert changes == [1, 8, 1]
    assert PATIENCE < counts.count(8) < 20 + PATIENCE + 5


@pytest.mark.parametrize("name", MODELS)
def test_texts_do_not_depend_on_the_slots_that_are_opened_and_dropped(name: str) -> None:
    model = MODELS[name]()
    lengths = [(10, 200), (5, 30), (40, 20), (7, 25), (300, 30), (12, 40), (3, 10)]
    expected = {
        seed: [done.result for done in Engine(model, slots=1).run([request(*each, seed)])]
        for seed, each in enumerate(lengths)
    }
    engine = Engine(model, slots=6)
    seen = set()
    requests = [request(*each, seed) for seed, each in enumerate(lengths)]
    waves = arriving(engine, (0, requests[:1]), (20, requests[1:5]), (150, requests[5:]), (190, []))
    for done in engine.steps(waves):
        seen.add((len(engine.states), engine.caches[1].capacity))
        if done is not None:
            assert [done.result] == expected[done.request.seed]

    assert {slots for slots, _ in seen} >= {1, 6}
    assert len({capacity for _, capacity in seen}) > 2


def test_capacity_is_given_back_when_the_long_programs_have_gone() -> None:
    engine = Engine(small_llama(), slots=2)
    requests = [request(600, 4, 0), request(10, 250, 1)]
    capacities = []
    for done in engine.steps(arriving(engine, (0, requests), (240, []))):
        if done is None:
            capacities.append(engine.caches[0].capacity)

    assert max(capacities) == 640
    assert capacities[-1] == 384


def test_a_condition_ends_a_segment_after_the_token_that_fulfils_it() -> None:
    seen: list[int] = []

    def program() -> Program:
        yield Given((10,))
        first = yield Sample(limit=9, stop=frozenset(), sampling=Sampling(temperature=0.0), until=is_thirteen)
        second = yield upto(2)
        return first, second

    def is_thirteen(token: int) -> bool:
        seen.append(token)
        return token == 13

    [done] = Engine(ScriptedModel(CHAIN), slots=1).run([Request(program=program())])
    first, second = done.result
    assert (first.tokens, first.reason, first.stop_token) == ((11, 12, 13), "stop", None)
    assert second.tokens == (14, 15)
    assert seen == [11, 12, 13]
