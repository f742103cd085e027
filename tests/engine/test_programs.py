"""Results of segments, with scripted models whose next token is known."""

import math
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
    Rewind,
    Sample,
    Sampling,
    Written,
    slots,
)
from tests.engine.scripted import CHAIN, STOP, UNTIL_STOP, Choose, ScriptedModel, fed, outcomes, run, upto

GREEDY = Sampling(temperature=0.0)


def logs(*probabilities: float) -> Any:
    return pytest.approx([math.log(p) for p in probabilities], abs=1e-4)


# ---- why text ends


def test_text_ends_at_a_stop_token_which_is_reported_but_not_part_of_it() -> None:
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


def test_a_stop_token_at_the_limit_counts_as_a_stop() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    assert run(engine, outcomes(Given((18,)), upto(3)), outcomes(Given((18,)), upto(2))) == [
        [Written(tokens=(19, 20), reason="stop", stop_token=STOP)],
        [Written(tokens=(19, 20), reason="limit")],
    ]


def test_text_ends_when_the_context_is_full() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1, context=6)
    assert run(engine, outcomes(Given((9, 9, 10)), UNTIL_STOP), outcomes(Given((9, 9, 9, 18)), UNTIL_STOP)) == [
        [Written(tokens=(11, 12, 13), reason="context")],
        [Written(tokens=(19, 20), reason="context")],
    ]


def test_a_stop_token_at_the_last_position_of_the_context_counts_as_a_stop() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1, context=6)
    assert run(engine, outcomes(Given((9, 9, 18)), UNTIL_STOP)) == [
        [Written(tokens=(19, 20), reason="stop", stop_token=STOP)]
    ]


def test_a_limit_at_the_end_of_the_context_counts_as_the_limit() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1, context=6)
    assert run(engine, outcomes(Given((9, 9, 10)), upto(3), upto(1))) == [
        [Written(tokens=(11, 12, 13), reason="limit"), Written(tokens=(), reason="context")]
    ]


def test_a_limit_of_zero_samples_nothing() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    assert run(engine, outcomes(Given((10,)), upto(0), upto(1))) == [
        [Written(tokens=(), reason="limit"), Written(tokens=(11,), reason="limit")]
    ]


def test_forced_text_may_leave_one_position_of_the_context_or_none() -> None:
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


def test_no_slot_grows_beyond_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "GROWTH", 1)
    engine = Engine(ScriptedModel(CHAIN), slots=3, context=6)
    full = outcomes(Given((9, 9, 10)), UNTIL_STOP)
    # The first slot is full and then free, while the others continue.
    others = [outcomes(Given((10,)), upto(1), Given((10,)), upto(1), Given((10,)), upto(9)) for _ in range(2)]
    assert run(engine, full, *others)[0] == [Written(tokens=(11, 12, 13), reason="context")]
    assert engine.stats.idle > 1
    assert engine.caches[0].capacity == 6


# ---- one sequence, fed once


def test_forced_text_after_a_stop_token_is_fed_into_the_same_slot() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    assert run(engine, outcomes(Given((5, 18)), UNTIL_STOP, Given((6, 7, 14)), upto(2))) == [
        [Written(tokens=(19, 20), reason="stop", stop_token=STOP), Written(tokens=(15, 16), reason="limit")]
    ]
    assert fed(engine, 0, 9) == [5, 18, 19, 20, STOP, 6, 7, 14, 15]
    assert (engine.stats.prefilled, engine.stats.forced, engine.stats.sampled) == (1, 1 + 3, 3 + 2)


def test_forced_text_may_follow_text_that_reached_its_limit() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    assert run(engine, outcomes(Given((10,)), upto(2), Given((6, 14)), upto(2))) == [
        [Written(tokens=(11, 12), reason="limit"), Written(tokens=(15, 16), reason="limit")]
    ]
    assert fed(engine, 0, 6) == [10, 11, 12, 6, 14, 15]


def test_consecutive_forced_texts_are_one_text() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    assert run(
        engine, outcomes(Given((5,)), Given(()), Given((6, 10)), upto(1), Given((7,)), Given((14,)), upto(1))
    ) == [[Written(tokens=(11,), reason="limit"), Written(tokens=(15,), reason="limit")]]
    assert fed(engine, 0, 6) == [5, 6, 10, 11, 7, 14]


def test_long_forced_text_is_prefilled_and_short_text_is_fed_in_decode_steps() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    run(engine, outcomes(Given((9, 10)), upto(2), Given((9,) * 14 + (10,)), upto(2), Given((8,) * 16 + (10,)), upto(2)))
    # The last sampled token has been fed already, so 15 tokens are pending first, and then 17: one above the limit.
    assert fed(engine, 0, 39) == [9, 10, 11, 12, *[9] * 14, 10, 11, 12, *[8] * 16, 10, 11]
    assert (engine.stats.prefilled, engine.stats.forced) == (1 + 16, 1 + 15 + 1)


def test_sampled_text_may_follow_sampled_text() -> None:
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


def test_a_program_may_use_a_result_in_its_next_segment() -> None:
    def adaptive() -> Program:
        yield Given((10,))
        first = yield upto(3)
        yield Given((first.tokens[-1], 40))
        second = yield Sample(limit=1, stop=frozenset())
        return first.tokens + second.tokens

    engine = Engine(ScriptedModel(CHAIN | {40: 41}), slots=1)
    assert run(engine, adaptive()) == [(11, 12, 13, 41)]
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


def test_labels_may_be_scored_right_after_forced_text() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=1)
    assert run(engine, outcomes(Given((5, 12)), Choose(LABELS), upto(1))) == [
        [Reply(index=1, log_probs=logs(0.25, 0.3, 0.125)), Written(tokens=(23,), reason="limit")]
    ]
    assert fed(engine, 0, 3) == [5, 12, 22]


def test_labels_may_be_scored_within_a_text() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=1)
    assert run(engine, outcomes(Given((10,)), upto(1), Given((7, 12)), Choose(LABELS), Given((16,)), upto(1))) == [
        [
            Written(tokens=(11,), reason="limit"),
            Reply(index=1, log_probs=logs(0.25, 0.3, 0.125)),
            Written(tokens=(17,), reason="limit"),
        ]
    ]
    assert fed(engine, 0, 6) == [10, 11, 7, 12, 22, 16]


def test_labels_may_be_scored_right_after_sampled_text() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=1)
    assert run(engine, outcomes(Given((10,)), upto(2), Choose(LABELS), upto(1))) == [
        [
            Written(tokens=(11, 12), reason="limit"),
            Reply(index=1, log_probs=logs(0.25, 0.3, 0.125)),
            Written(tokens=(23,), reason="limit"),
        ]
    ]
    assert fed(engine, 0, 4) == [10, 11, 12, 22]


def test_labels_may_be_scored_right_after_a_label_and_end_the_program() -> None:
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


def test_labels_with_a_common_prefix_are_each_scored_completely() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=1)
    assert run(engine, outcomes(Given((12,)), Choose(((20, 20), (20, 21, 25), (20,))))) == [
        [Reply(index=2, log_probs=logs(0.25, 0.25, 0.5))]
    ]


def test_the_first_of_equally_probable_labels_is_the_result() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=1)
    assert run(engine, outcomes(Given((12,)), Choose(((22,), (20, 20), (20, 21), (22,))))) == [
        [Reply(index=0, log_probs=logs(0.3, 0.25, 0.25, 0.3))]
    ]


def test_other_rows_are_unaffected_while_labels_are_scored() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=3)
    scorer = outcomes(Given((10,)), upto(2), Choose(LABELS), Given((9,) * 30 + (16,)), upto(2))
    first, *others = [outcomes(Given((13,)), upto(7)) for _ in range(4)]
    alone = [Written(tokens=(14, 15, 16, 17, 18, 19, 20), reason="limit")]
    assert run(engine, first, scorer, *others) == [
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


def test_a_query_that_exceeds_the_context_has_no_reply_and_one_that_just_fits_has() -> None:
    engine = Engine(ScriptedModel(CROSSROADS), slots=1, context=6)
    query = Queries((Query(tokens=(), labels=((20, 21), (22,))),))
    assert run(engine, outcomes(Given((9, 9, 9, 12)), query)) == [[(Reply(index=1, log_probs=logs(0.25, 0.3)),)]]
    assert run(engine, outcomes(Given((9, 9, 9, 9, 12)), query)) == [[None]]


# ---- marks


def test_a_program_rewinds_to_a_mark_and_samples_the_same_text_again() -> None:
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
