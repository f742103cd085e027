"""Runs: how requests enter and leave the slots, and sampling settings per row."""

from collections.abc import Iterator
from typing import Any

import pytest

from mlx_suite.engine import Engine, Given, Program, Request, Sample, Sampling, Written
from tests.engine.scripted import CHAIN, STOP, UNTIL_STOP, ScriptedModel, outcomes, requests_for, run, upto
from tests.engine.small_models import small_llama


def test_a_run_without_requests_yields_nothing() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=4)
    assert list(engine.run([])) == []
    assert engine.stats.steps == 0


def test_fewer_programs_than_slots_use_only_the_slots_they_need() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=8)
    assert run(engine, *(outcomes(Given((10 + i,)), upto(2)) for i in range(3))) == [
        [Written(tokens=(11 + i, 12 + i), reason="limit")] for i in range(3)
    ]
    assert (engine.stats.slot_steps, engine.stats.idle) == (9, 3)


def test_programs_may_end_without_sampling() -> None:
    def silent() -> Program:
        yield Given((5, 6))
        return "given"

    def empty() -> Program:
        return "nothing"
        yield

    engine = Engine(ScriptedModel(CHAIN), slots=2)
    assert run(engine, empty(), silent(), silent(), outcomes(Given((10,)), upto(1)), empty(), silent()) == [
        "nothing",
        "given",
        "given",
        [Written(tokens=(11,), reason="limit")],
        "nothing",
        "given",
    ]


def test_requests_are_drawn_when_a_slot_is_free() -> None:
    drawn: list[int] = []

    def requests() -> Iterator[Request]:
        for i in range(6):
            drawn.append(i)
            yield Request(program=outcomes(Given((10,)), upto(1 + i)), seed=i)

    engine = Engine(ScriptedModel(CHAIN), slots=2)
    ended = []
    for done in engine.run(requests()):
        ended.append((done.request.seed, list(drawn)))
    assert ended == [
        (0, [0, 1]),
        (1, [0, 1, 2]),
        (2, [0, 1, 2, 3]),
        (3, [0, 1, 2, 3, 4]),
        (4, [0, 1, 2, 3, 4, 5]),
        (5, [0, 1, 2, 3, 4, 5]),
    ]


@pytest.mark.parametrize("when", ["before its first segment", "after forced text", "after sampled text"])
def test_a_program_that_raises_ends_alone_and_the_engine_remains_usable(when: str) -> None:
    def failing() -> Program:
        if when != "before its first segment":
            yield Given((5, 10))
        if when == "after sampled text":
            yield upto(2)
        raise KeyError("a bug of the program")

    engine = Engine(ScriptedModel(CHAIN), slots=3)
    good = [outcomes(Given((5, 12)), upto(4)) for _ in range(4)]
    done = list(engine.run(requests_for((*good[:2], failing(), *good[2:]))))
    assert [str(each.error) for each in done if each.error] == ["'a bug of the program'"]
    assert [each.result for each in done if not each.error] == [[Written(tokens=(13, 14, 15, 16), reason="limit")]] * 4
    assert (
        run(engine, *(outcomes(Given((5, 12)), upto(4)) for _ in range(5)))
        == [[Written(tokens=(13, 14, 15, 16), reason="limit")]] * 5
    )


def test_a_run_may_be_closed_and_its_slots_keep_their_kv_caches() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=2)
    first = engine.run(Request(program=outcomes(Given((5, 6, 10)), upto(n)), seed=n) for n in (2, 9, 9, 9))
    assert next(first).request.seed == 2
    first.close()
    assert engine.cached == [[5, 6, 10, 11, 12], [5, 6, 10, 11, 12]]
    prefilled = engine.stats.prefilled
    assert run(engine, outcomes(Given((5, 6, 10, 11, 12)), upto(2)), outcomes(Given((5, 6, 13)), upto(2))) == [
        [Written(tokens=(13, 14), reason="limit")],
        [Written(tokens=(14, 15), reason="limit")],
    ]
    assert engine.stats.prefilled == prefilled


def test_two_runs_at_a_time_are_refused() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=2)
    first = engine.run(requests_for((outcomes(Given((10,)), upto(1)), outcomes(Given((10,)), upto(9)))))
    next(first)
    with pytest.raises(AssertionError, match="one run at a time"):
        run(engine, outcomes(Given((10,)), upto(1)))
    assert [done.request.seed for done in first] == [1]


def test_an_engine_that_ended_with_fewer_slots_runs_again_with_all_and_keeps_its_prefix_cache() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=4)
    for again in (1, 2, 3):
        assert run(engine, *(outcomes(Given((5, 6, 7, 10)), upto(n)) for n in (1, 2, 3, 4, 9))) == [
            [Written(tokens=tuple(range(11, 11 + n)), reason="limit")] for n in (1, 2, 3, 4, 9)
        ]
        assert len(engine.states) == 1
        assert (engine.stats.steps, engine.stats.slot_steps) == (12 * again, (4 * 4 + 2 + 7) * again)
    assert engine.stats.prefilled == 3


def test_a_partly_shared_start_is_computed_once() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=2)
    header = (5, 6, 7, 8, 9)
    run(engine, *(outcomes(Given((*header, 30 + i, 10)), upto(3)) for i in range(4)))
    # The first prefills six tokens, the others one each; the last token of each is fed in a decode step.
    assert engine.stats.prefilled == 6 + 1 + 1 + 1


def test_on_token_gets_tokens_in_order_including_the_stop_token() -> None:
    tokens: dict[int, list[int]] = {0: [], 1: [], 2: []}
    starts = {0: 15, 1: 18, 2: 12}
    engine = Engine(ScriptedModel(CHAIN), slots=2)
    requests = [
        Request(program=outcomes(Given((start,)), UNTIL_STOP), seed=i, on_token=tokens[i].append)
        for i, start in starts.items()
    ]
    assert len(list(engine.run(requests))) == 3
    assert tokens == {
        0: [16, 17, 18, 19, 20, STOP],
        1: [19, 20, STOP],
        2: [13, 14, 15, 16, 17, 18, 19, 20, STOP],
    }


def test_on_token_gets_tokens_before_the_program_continues() -> None:
    events: list[Any] = []

    def recording() -> Program:
        yield Given((10,))
        events.append((yield upto(2)).tokens)
        yield Given((15,))
        events.append((yield upto(1)).tokens)

    engine = Engine(ScriptedModel(CHAIN), slots=1)
    list(engine.run([Request(program=recording(), on_token=events.append)]))
    assert events == [11, 12, (11, 12), 16, (16,)]


def numbered(number: int) -> Program:
    yield Given((1, 2, number))
    written = yield Sample(limit=4 + number, stop=frozenset())
    return number, written.tokens


def test_slots_wait_while_there_is_no_request() -> None:
    model: Any = small_llama()
    finished: list[int] = []

    def one_at_a_time() -> Iterator[Request | None]:
        for number in range(4):
            while len(finished) < number:
                yield None
            yield Request(program=numbered(number), seed=number)

    def finish(requests: Iterator[Request | None]) -> list[Any]:
        results = []
        for done in Engine(model, slots=3, context=64).run(requests):
            finished.append(done.result[0])
            results.append(done.result)
        return results

    alone = [finish(iter([Request(program=numbered(number), seed=number)]))[0] for number in range(4)]
    finished.clear()
    assert finish(one_at_a_time()) == alone


# ---- settings per row

DICE = {10: {11: 0.4, 12: 0.3, 13: 0.2, 14: 0.1}, 11: 10, 12: 10, 13: 10, 14: 10}


def rolls(sampling: Sampling, seeds: range, slots: int = 4) -> list[int]:
    """First tokens after 10."""
    engine = Engine(ScriptedModel(DICE), slots=slots)
    sample = Sample(limit=1, stop=frozenset(), sampling=sampling)
    done = engine.run(Request(program=outcomes(Given((10,)), sample), seed=i) for i in seeds)
    by_seed = {each.request.seed: each.result[0].tokens[0] for each in done}
    return [by_seed[i] for i in seeds]


def test_banned_ids_are_never_sampled() -> None:
    assert set(rolls(Sampling(), range(60))) == {11, 12, 13, 14}
    assert set(rolls(Sampling(banned=(11, 13)), range(60))) == {12, 14}
    assert rolls(Sampling(temperature=0.0, banned=(11, 12)), range(3)) == [13, 13, 13]


def test_ids_banned_as_the_first_token_may_be_sampled_later() -> None:
    engine = Engine(ScriptedModel({10: {10: 0.6, 11: 0.4}, 11: {10: 0.6, 11: 0.4}}), slots=1)
    sampling = Sampling(temperature=0.0, banned_first=(10,))
    sample = Sample(limit=3, stop=frozenset(), sampling=sampling)
    assert run(engine, outcomes(Given((10, 10, 10)), sample, sample, Given((11,)), sample)) == [
        [Written(tokens=(11, 10, 10), reason="limit")] * 3
    ]


def test_each_row_of_a_batch_has_its_own_settings() -> None:
    greedy = Sampling(temperature=0.0)
    settings = [
        greedy,
        Sampling(banned=(11, 12, 13)),
        Sampling(top_p=0.35),
        Sampling(min_p=0.9),
        Sampling(temperature=0.0, banned=(11,)),
        Sampling(temperature=0.0, banned_first=(11, 12)),
    ]
    engine = Engine(ScriptedModel(DICE), slots=6)
    programs = [outcomes(Given((10,)), Sample(limit=3, stop=frozenset(), sampling=sampling)) for sampling in settings]
    assert [result[0].tokens for result in run(engine, *programs)] == [
        (11, 10, 11),
        (14, 10, 14),
        (11, 10, 11),
        (11, 10, 11),
        (12, 10, 12),
        (13, 10, 11),
    ]


def test_settings_may_change_within_a_row() -> None:
    engine = Engine(ScriptedModel(DICE), slots=1)
    first = Sample(limit=1, stop=frozenset(), sampling=Sampling(banned=(11, 12, 13)))
    second = Sample(limit=2, stop=frozenset(), sampling=Sampling(temperature=0.0))
    assert run(engine, outcomes(Given((10,)), first, second)) == [
        [Written(tokens=(14,), reason="limit"), Written(tokens=(10, 11), reason="limit")]
    ]


def test_a_seed_determines_a_row_and_different_seeds_give_different_rows() -> None:
    tokens = rolls(Sampling(), range(40))
    assert tokens == rolls(Sampling(), range(40), slots=1)
    assert tokens == rolls(Sampling(), range(40), slots=16)
    assert {token: tokens.count(token) for token in (11, 12, 13, 14)} == {11: 13, 12: 14, 13: 10, 14: 3}
