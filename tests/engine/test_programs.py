"""What programs see of their segments, told by scripted models whose next token is known."""

import math
from collections.abc import Iterator
from typing import Any

import pytest

from mlx_suite.engine import (
    Engine,
    Given,
    Mark,
    Program,
    Queries,
    Query,
    Reply,
    Request,
    Rewind,
    Sample,
    Sampling,
    Written,
    slots,
)
from tests.engine.scripted import STOP, Choose, ScriptedModel, fed

CHAIN = {token: token + 1 for token in range(10, 20)} | {20: STOP}
"""10 is followed by 11, and so on; 20 by STOP."""
UNTIL_STOP = Sample(limit=50, stop=frozenset({STOP}))


def upto(limit: int) -> Sample:
    return Sample(limit=limit, stop=frozenset({STOP}))


GREEDY = Sampling(temperature=0.0)


def one(segment: Any) -> Program:
    return (yield segment)


def outcomes(*segments: Any) -> Program:
    """Runs the segments and returns what became of them."""
    became = []
    for segment in segments:
        outcome = yield from segment.program() if isinstance(segment, Choose) else one(segment)
        if not isinstance(segment, Given):
            became.append(outcome)
    return became


def run(engine: Engine, *programs: Program) -> list[Any]:
    """Results in the order of the programs."""
    done = {each.request.seed: each.result for each in engine.run(map_requests(programs))}
    return [done[i] for i in range(len(programs))]


def map_requests(programs: tuple[Program, ...]) -> Iterator[Request]:
    return (Request(program=program, seed=i) for i, program in enumerate(programs))


def logs(*probabilities: float) -> Any:
    return pytest.approx([math.log(p) for p in probabilities], abs=1e-4)


# ---- why text ends


def test_text_ends_at_a_stop_token_which_is_named_and_left_out() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    assert run(engine, outcomes(Given((5, 17)), UNTIL_STOP)) == [
        [Written(tokens=(18, 19, 20), reason="stop", stop_token=STOP)]
    ]


def test_each_of_several_stop_tokens_ends_text() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    several = Sample(limit=50, stop=frozenset({13, 15, STOP}))
    assert run(engine, outcomes(Given((10,)), several, several)) == [
        [
            Written(tokens=(11, 12), reason="stop", stop_token=13),
            Written(tokens=(14,), reason="stop", stop_token=15),
        ]
    ]


def test_text_ends_at_its_limit() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    assert run(engine, outcomes(Given((10,)), upto(3))) == [[Written(tokens=(11, 12, 13), reason="limit")]]


def test_a_stop_token_that_is_the_last_within_the_limit_counts_as_a_stop() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    assert run(engine, outcomes(Given((18,)), upto(3)), outcomes(Given((18,)), upto(2))) == [
        [Written(tokens=(19, 20), reason="stop", stop_token=STOP)],
        [Written(tokens=(19, 20), reason="limit")],
    ]


def test_text_ends_where_the_context_is_full() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1, context=6)
    assert run(engine, outcomes(Given((9, 9, 10)), UNTIL_STOP), outcomes(Given((9, 9, 9, 18)), UNTIL_STOP)) == [
        [Written(tokens=(11, 12, 13), reason="context")],
        [Written(tokens=(19, 20), reason="context")],
    ]


def test_a_stop_token_at_the_last_place_of_the_context_counts_as_a_stop() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1, context=6)
    assert run(engine, outcomes(Given((9, 9, 18)), UNTIL_STOP)) == [
        [Written(tokens=(19, 20), reason="stop", stop_token=STOP)]
    ]


def test_a_limit_that_ends_with_the_context_counts_as_the_limit() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1, context=6)
    assert run(engine, outcomes(Given((9, 9, 10)), upto(3), upto(1))) == [
        [Written(tokens=(11, 12, 13), reason="limit"), Written(tokens=(), reason="context")]
    ]


def test_a_limit_of_nothing_writes_nothing() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    assert run(engine, outcomes(Given((10,)), upto(0), upto(1))) == [
        [Written(tokens=(), reason="limit"), Written(tokens=(11,), reason="limit")]
    ]


def test_given_text_may_leave_one_place_in_the_context_or_none() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=2, context=6)
    assert run(
        engine,
        outcomes(Given((9, 9, 9, 9, 10)), UNTIL_STOP),
        outcomes(Given((9, 9, 9, 9, 9, 10)), UNTIL_STOP),
        outcomes(Given((9,) * 40), UNTIL_STOP, Given((10,)), UNTIL_STOP),
        outcomes(Given((10,)), upto(2), Given((9,) * 40), UNTIL_STOP),
        outcomes(Given((10,)), upto(2)),
    ) == [
        [Written(tokens=(11,), reason="context")],
        [Written(tokens=(), reason="context")],
        [Written(tokens=(), reason="context")] * 2,
        [Written(tokens=(11, 12), reason="limit"), Written(tokens=(), reason="context")],
        [Written(tokens=(11, 12), reason="limit")],
    ]


def test_no_slot_reaches_past_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "GROWTH", 1)
    engine = Engine(ScriptedModel(CHAIN), slots=3, context=6)
    full = outcomes(Given((9, 9, 10)), UNTIL_STOP)
    # The first slot is free, and full, while the others write on.
    others = [outcomes(Given((10,)), upto(1), Given((10,)), upto(1), Given((10,)), upto(9)) for _ in range(2)]
    assert run(engine, full, *others)[0] == [Written(tokens=(11, 12, 13), reason="context")]
    assert engine.stats.idle > 1
    assert engine.caches[0].capacity == 6


# ---- one sequence, fed once


def test_given_text_follows_a_stop_token_in_the_same_slot() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    assert run(engine, outcomes(Given((5, 18)), UNTIL_STOP, Given((6, 7, 14)), upto(2))) == [
        [Written(tokens=(19, 20), reason="stop", stop_token=STOP), Written(tokens=(15, 16), reason="limit")]
    ]
    assert fed(engine, 0, 9) == [5, 18, 19, 20, STOP, 6, 7, 14, 15]
    assert (engine.stats.prefilled, engine.stats.forced, engine.stats.sampled) == (1, 1 + 3, 3 + 2)


def test_given_text_follows_text_that_reached_its_limit() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    assert run(engine, outcomes(Given((10,)), upto(2), Given((6, 14)), upto(2))) == [
        [Written(tokens=(11, 12), reason="limit"), Written(tokens=(15, 16), reason="limit")]
    ]
    assert fed(engine, 0, 6) == [10, 11, 12, 6, 14, 15]


def test_several_givens_are_one_text() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    assert run(
        engine, outcomes(Given((5,)), Given(()), Given((6, 10)), upto(1), Given((7,)), Given((14,)), upto(1))
    ) == [[Written(tokens=(11,), reason="limit"), Written(tokens=(15,), reason="limit")]]
    assert fed(engine, 0, 6) == [5, 6, 10, 11, 7, 14]


def test_long_given_text_is_prefilled_and_short_text_rides_along() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    run(engine, outcomes(Given((9, 10)), upto(2), Given((9,) * 14 + (10,)), upto(2), Given((8,) * 16 + (10,)), upto(2)))
    # What was sampled last has been fed ahead, so 15 tokens are pending first, and then 17: one too many to ride.
    assert fed(engine, 0, 39) == [9, 10, 11, 12, *[9] * 14, 10, 11, 12, *[8] * 16, 10, 11]
    assert (engine.stats.prefilled, engine.stats.forced) == (1 + 16, 1 + 15 + 1)


def test_text_may_go_on_after_text() -> None:
    engine = Engine(ScriptedModel(CHAIN | {STOP: 30, 30: 31}), slots=1)
    assert run(engine, outcomes(Given((16,)), upto(2), upto(1), UNTIL_STOP, upto(2))) == [
        [
            Written(tokens=(17, 18), reason="limit"),
            Written(tokens=(19,), reason="limit"),
            Written(tokens=(20,), reason="stop", stop_token=STOP),
            Written(tokens=(30, 31), reason="limit"),
        ]
    ]
    assert fed(engine, 0, 7) == [16, 17, 18, 19, 20, STOP, 30]


def test_a_program_may_look_before_it_asks() -> None:
    def curious() -> Program:
        yield Given((10,))
        first = yield upto(3)
        yield Given((first.tokens[-1], 40))
        second = yield Sample(limit=1, stop=frozenset())
        return first.tokens + second.tokens

    engine = Engine(ScriptedModel(CHAIN | {40: 41}), slots=1)
    assert run(engine, curious()) == [(11, 12, 13, 41)]
    assert fed(engine, 0, 6) == [10, 11, 12, 13, 13, 40]


# ---- labels

CROSSROADS = CHAIN | {
    12: {20: 0.5, 22: 0.3, 13: 0.2},
    20: {21: 0.5, 20: 0.5},
    21: 25,
    22: 23,
    25: 26,
}
LABELS = ((20, 21), (22,), (20, 20, 21))


def test_a_label_may_be_chosen_right_after_given_text() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=1)
    assert run(engine, outcomes(Given((5, 12)), Choose(LABELS), upto(1))) == [
        [Reply(index=1, log_probs=logs(0.25, 0.3, 0.125)), Written(tokens=(23,), reason="limit")]
    ]
    assert fed(engine, 0, 3) == [5, 12, 22]


def test_a_label_may_be_chosen_within_a_text() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=1)
    assert run(engine, outcomes(Given((10,)), upto(1), Given((7, 12)), Choose(LABELS), Given((16,)), upto(1))) == [
        [
            Written(tokens=(11,), reason="limit"),
            Reply(index=1, log_probs=logs(0.25, 0.3, 0.125)),
            Written(tokens=(17,), reason="limit"),
        ]
    ]
    assert fed(engine, 0, 6) == [10, 11, 7, 12, 22, 16]


def test_a_label_may_be_chosen_right_after_sampled_text() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=1)
    assert run(engine, outcomes(Given((10,)), upto(2), Choose(LABELS), upto(1))) == [
        [
            Written(tokens=(11, 12), reason="limit"),
            Reply(index=1, log_probs=logs(0.25, 0.3, 0.125)),
            Written(tokens=(23,), reason="limit"),
        ]
    ]
    assert fed(engine, 0, 4) == [10, 11, 12, 22]


def test_a_label_may_be_chosen_right_after_a_label_and_end_the_program() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=1)
    assert run(
        engine, outcomes(Given((12,)), Choose(((20,), (13,))), Choose(((20, 21), (21,))), Choose(((25, 26),)))
    ) == [
        [
            Reply(index=0, log_probs=logs(0.5, 0.2)),
            Reply(index=1, log_probs=logs(0.25, 0.5)),
            Reply(index=0, log_probs=logs(1.0)),
        ]
    ]
    assert engine.stats.steps == 0


def test_of_labels_that_share_a_start_each_is_scored_whole() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=1)
    assert run(engine, outcomes(Given((12,)), Choose(((20, 20), (20, 21, 25), (20,))))) == [
        [Reply(index=2, log_probs=logs(0.25, 0.25, 0.5))]
    ]


def test_of_equal_labels_the_first_is_chosen() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=1)
    assert run(engine, outcomes(Given((12,)), Choose(((22,), (20, 20), (20, 21), (22,))))) == [
        [Reply(index=0, log_probs=logs(0.3, 0.25, 0.25, 0.3))]
    ]


def test_neighbours_write_on_while_a_label_is_chosen() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=3)
    chooser = outcomes(Given((10,)), upto(2), Choose(LABELS), Given((9,) * 30 + (16,)), upto(2))
    first, *others = [outcomes(Given((13,)), upto(7)) for _ in range(4)]
    alone = [Written(tokens=(14, 15, 16, 17, 18, 19, 20), reason="limit")]
    assert run(engine, first, chooser, *others) == [
        alone,
        [
            Written(tokens=(11, 12), reason="limit"),
            Reply(index=1, log_probs=logs(0.25, 0.3, 0.125)),
            Written(tokens=(17, 18), reason="limit"),
        ],
        alone,
        alone,
        alone,
    ]


def test_a_query_that_does_not_fit_has_no_reply_and_one_that_just_fits_has() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=1, context=6)
    query = Queries((Query(tokens=(), labels=((20, 21), (22,))),))
    assert run(engine, outcomes(Given((9, 9, 9, 12)), query)) == [[(Reply(index=1, log_probs=logs(0.25, 0.3)),)]]
    assert run(engine, outcomes(Given((9, 9, 9, 9, 12)), query)) == [[None]]


# ---- programs come and go


def test_nothing_to_run_is_nothing_done() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=4)
    assert list(engine.run([])) == []
    assert engine.stats.steps == 0


def test_fewer_programs_than_slots_open_no_more_than_they_need() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=8)
    assert run(engine, *(outcomes(Given((10 + i,)), upto(2)) for i in range(3))) == [
        [Written(tokens=(11 + i, 12 + i), reason="limit")] for i in range(3)
    ]
    assert (engine.stats.slot_steps, engine.stats.idle) == (9, 3)


def test_programs_may_end_before_they_sample() -> None:
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


def test_programs_are_drawn_when_a_slot_is_free_for_them() -> None:
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


@pytest.mark.parametrize("when", ["before its first segment", "after given text", "after sampled text"])
def test_what_a_program_raises_reaches_the_caller_and_the_engine_works_on(when: str) -> None:
    def failing() -> Program:
        if when != "before its first segment":
            yield Given((5, 10))
        if when == "after sampled text":
            yield upto(2)
        raise KeyError("my own mistake")

    engine = Engine(ScriptedModel(CHAIN), slots=3)
    good = [outcomes(Given((5, 12)), upto(4)) for _ in range(4)]
    with pytest.raises(KeyError, match="my own mistake"):
        run(engine, *good, failing(), *good)
    assert (
        run(engine, *(outcomes(Given((5, 12)), upto(4)) for _ in range(5)))
        == [[Written(tokens=(13, 14, 15, 16), reason="limit")]] * 5
    )


def test_a_run_may_be_closed_and_its_slots_know_what_they_hold() -> None:
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
    first = engine.run(map_requests((outcomes(Given((10,)), upto(1)), outcomes(Given((10,)), upto(9)))))
    next(first)
    with pytest.raises(AssertionError, match="one run at a time"):
        run(engine, outcomes(Given((10,)), upto(1)))
    assert [done.request.seed for done in first] == [1]


def test_an_engine_that_ended_on_fewer_slots_runs_again_on_all_and_keeps_its_prefix() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=4)
    for again in (1, 2, 3):
        assert run(engine, *(outcomes(Given((5, 6, 7, 10)), upto(n)) for n in (1, 2, 3, 4, 9))) == [
            [Written(tokens=tuple(range(11, 11 + n)), reason="limit")] for n in (1, 2, 3, 4, 9)
        ]
        assert len(engine.states) == 1
        assert (engine.stats.steps, engine.stats.slot_steps) == (12 * again, (4 * 4 + 2 + 7) * again)
    assert engine.stats.prefilled == 3


def test_a_start_that_is_shared_in_part_is_computed_once() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=2)
    header = (5, 6, 7, 8, 9)
    run(engine, *(outcomes(Given((*header, 30 + i, 10)), upto(3)) for i in range(4)))
    # The first computes six tokens, the others their own one alone; the last token of each is fed in a step.
    assert engine.stats.prefilled == 6 + 1 + 1 + 1


def test_tokens_are_told_in_order_the_stop_token_included() -> None:
    told: dict[int, list[int]] = {0: [], 1: [], 2: []}
    starts = {0: 15, 1: 18, 2: 12}
    engine = Engine(ScriptedModel(CHAIN), slots=2)
    requests = [
        Request(program=outcomes(Given((start,)), UNTIL_STOP), seed=i, on_token=told[i].append)
        for i, start in starts.items()
    ]
    assert len(list(engine.run(requests))) == 3
    assert told == {
        0: [16, 17, 18, 19, 20, STOP],
        1: [19, 20, STOP],
        2: [13, 14, 15, 16, 17, 18, 19, 20, STOP],
    }


def test_tokens_are_told_before_the_program_goes_on() -> None:
    events: list[Any] = []

    def telling() -> Program:
        yield Given((10,))
        events.append((yield upto(2)).tokens)
        yield Given((15,))
        events.append((yield upto(1)).tokens)

    engine = Engine(ScriptedModel(CHAIN), slots=1)
    list(engine.run([Request(program=telling(), on_token=events.append)]))
    assert events == [11, 12, (11, 12), 16, (16,)]


# ---- settings per row

DICE = {10: {11: 0.4, 12: 0.3, 13: 0.2, 14: 0.1}, 11: 10, 12: 10, 13: 10, 14: 10}


def rolls(sampling: Sampling, seeds: range, slots: int = 4) -> list[int]:
    """First tokens after 10."""
    engine = Engine(ScriptedModel(DICE), slots=slots)
    sample = Sample(limit=1, stop=frozenset(), sampling=sampling)
    done = engine.run(Request(program=outcomes(Given((10,)), sample), seed=i) for i in seeds)
    by_seed = {each.request.seed: each.result[0].tokens[0] for each in done}
    return [by_seed[i] for i in seeds]


def test_banned_tokens_are_never_written() -> None:
    assert set(rolls(Sampling(), range(60))) == {11, 12, 13, 14}
    assert set(rolls(Sampling(banned=(11, 13)), range(60))) == {12, 14}
    assert rolls(Sampling(temperature=0.0, banned=(11, 12)), range(3)) == [13, 13, 13]


def test_tokens_banned_at_first_are_written_later() -> None:
    engine = Engine(ScriptedModel({10: {10: 0.6, 11: 0.4}, 11: {10: 0.6, 11: 0.4}}), slots=1)
    sampling = Sampling(temperature=0.0, banned_first=(10,))
    sample = Sample(limit=3, stop=frozenset(), sampling=sampling)
    assert run(engine, outcomes(Given((10, 10, 10)), sample, sample, Given((11,)), sample)) == [
        [Written(tokens=(11, 10, 10), reason="limit")] * 3
    ]


def test_rows_of_one_batch_have_each_their_own_settings() -> None:
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


def test_a_seed_decides_a_row_and_seeds_differ() -> None:
    tokens = rolls(Sampling(), range(40))
    assert tokens == rolls(Sampling(), range(40), slots=1)
    assert tokens == rolls(Sampling(), range(40), slots=16)
    assert {token: tokens.count(token) for token in (11, 12, 13, 14)} == {11: 13, 12: 14, 13: 10, 14: 3}


# ---- marks


def test_a_program_comes_back_to_a_mark_and_writes_the_same_again() -> None:
    def program() -> Program:
        yield Given((10,))
        first = yield Sample(limit=2, stop=frozenset(), sampling=GREEDY)
        mark = yield Mark()
        second = yield Sample(limit=3, stop=frozenset(), sampling=GREEDY)
        yield Rewind(mark)
        again = yield Sample(limit=3, stop=frozenset(), sampling=GREEDY)
        return mark, first.tokens, second.tokens, again.tokens

    [result] = run(Engine(ScriptedModel({token: token + 1 for token in range(10, 30)}), slots=1), program())

    assert result == (3, (11, 12), (13, 14, 15), (13, 14, 15))
