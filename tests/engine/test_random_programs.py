"""Random programs in random engines against a simple interpreter without slots, caches or batches."""

from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.engine import (
    Engine,
    Given,
    Program,
    PromptLookup,
    Request,
    Sample,
    Sampling,
    Speculation,
    Written,
    prefill,
    sequence,
    slots,
)
from mlx_suite.engine.sequence import SequenceState
from tests.engine.scripted import Choose, HistoryModel

Plan = list[Given | Sample | Choose]
GREEDY = Sampling(temperature=0.0)

tokens = st.integers(0, 22)
segments = st.one_of(
    st.lists(tokens, max_size=12).map(lambda ids: Given(tuple(ids))),
    st.builds(
        lambda limit, stop: Sample(limit=limit, stop=frozenset(stop), sampling=GREEDY),
        st.integers(0, 25),
        st.sets(tokens, max_size=3),
    ),
    st.lists(st.lists(tokens, min_size=1, max_size=4).map(tuple), min_size=1, max_size=3).map(
        lambda labels: Choose(tuple(labels))
    ),
)
starts = st.sampled_from([(1, 2, 3, 4, 5, 6), (1, 2, 3), (1, 2, 3, 9, 9), (7,), tuple(range(20))])
plans = st.builds(lambda start, rest: [Given(start), *rest], starts, st.lists(segments, max_size=5))
layers = st.sampled_from(
    [
        ((None,), (None,)),
        ((5,), (None,)),
        ((3, None), (None, None)),
        ((None, None), (4, None)),
        ((1, 8), (None, None)),
    ]
)


def fits(text: Sequence[int], choose: Choose, context: int) -> bool:
    return len(text) + max(map(len, choose.labels)) <= context


def one(segment: Given | Sample) -> Program:
    return (yield segment)


def program(plan: Plan, context: int) -> Program:
    text: list[int] = []
    results = []
    for segment in plan:
        if isinstance(segment, Choose) and not fits(text, segment, context):
            continue
        outcome = yield from segment.program() if isinstance(segment, Choose) else one(segment)
        if isinstance(segment, Given):
            text += segment.tokens
        elif isinstance(segment, Choose):
            text += segment.labels[outcome.index]
            results.append((outcome.index, outcome.log_probs))
        else:
            text += outcome.tokens + (() if outcome.stop_token is None else (outcome.stop_token,))
            results.append(outcome)
    return results, text


def interpreted(plan: Plan, model: HistoryModel, context: int, engine_results: list[Any]) -> Any:
    """Expected results of a plan. Where labels are equally probable, the engine's choice is right."""
    text: list[int] = []
    results: list[Any] = []
    for segment in plan:
        if isinstance(segment, Given):
            text += segment.tokens
        elif isinstance(segment, Sample):
            results.append(sampled(segment, text, model, context))
        elif fits(text, segment, context):
            log_probs = [model.log_prob(text, label) for label in segment.labels]
            index = engine_results[len(results)][0]
            assert log_probs[index] > max(log_probs) - 1e-4
            results.append((index, pytest.approx(log_probs, abs=1e-4)))
            text += segment.labels[index]
    return results, text


def sampled(sample: Sample, text: list[int], model: HistoryModel, context: int) -> Written:
    start = len(text)
    while len(text) - start < sample.limit:
        if len(text) >= context:
            return Written(tokens=tuple(text[start:]), reason="context")
        text.append(model.after(text))
        if text[-1] in sample.stop:
            return Written(tokens=tuple(text[start:-1]), reason="stop", stop_token=text[-1])
    return Written(tokens=tuple(text[start:]), reason="limit")


class PartlyRight:
    """Guesses the first `right` tokens rightly and the rest wrongly."""

    def __init__(self, model: HistoryModel, right: int) -> None:
        self.model, self.right = model, right

    def guess(self, state: SequenceState, length: int) -> list[int]:
        text = list(state.sequence)
        for place in range(length):
            text.append((self.model.after(text) + (place >= self.right)) % self.model.size)
        return text[len(state.sequence) :]


@settings(max_examples=160, deadline=None)
@given(
    plans=st.lists(plans, min_size=1, max_size=9),
    layers=layers,
    context=st.sampled_from([20, 33, 60, 200]),
    slot_count=st.integers(1, 4),
    ride=st.sampled_from([0, 1, 4]),
    chunk=st.sampled_from([1, 3, 8, 100]),
    shared_chunk=st.sampled_from([1, 5, 100]),
    growth=st.sampled_from([1, 7, 64]),
    closed_after=st.sampled_from([None, 1, 2]),
    right=st.sampled_from([None, -1, 0, 2, 20]),
)
def test_random_programs_match_a_simple_interpreter(
    plans: list[Plan],
    layers: Any,
    context: int,
    slot_count: int,
    ride: int,
    chunk: int,
    shared_chunk: int,
    growth: int,
    closed_after: int | None,
    right: int | None,
) -> None:
    model = HistoryModel(*layers)
    guesser = PromptLookup() if right == -1 else PartlyRight(model, right or 0)

    def requests() -> Iterator[Request]:
        return (Request(program=program(plan, context), seed=i) for i, plan in enumerate(plans))

    with (
        mock.patch.object(sequence, "RIDE", ride),
        mock.patch.object(prefill, "CHUNK", chunk),
        mock.patch.object(prefill, "SHARED_CHUNK", shared_chunk),
        mock.patch.object(slots, "GROWTH", growth),
    ):
        speculation = None if right is None else Speculation(guesser)
        engine = Engine(model, slots=slot_count, context=context, speculation=speculation)
        for ends in (closed_after, None):
            run = engine.run(requests())
            done = {}
            for each in run:
                done[each.request.seed] = each.result
                if len(done) == ends:
                    run.close()
                    break
            assert len(done) == (len(plans) if ends is None else min(ends, len(plans)))
            for i, result in done.items():
                assert result == interpreted(plans[i], model, context, result[0])
        assert max(cache.capacity for cache in engine.caches) <= slots.rounded_capacity(context)
        assert not any(engine.states)


@pytest.mark.parametrize("windows", [(None,), (5,), (5, None)], ids=str)
@pytest.mark.parametrize("limit", range(1, 9))
def test_slots_of_a_closed_run_serve_the_prefix_shared_with_the_next(
    windows: tuple[int | None, ...], limit: int
) -> None:
    """Closed with one slot free for some steps, one just freed and one still generating."""
    model = HistoryModel(windows, (None,) * len(windows))
    never = Sample(limit=limit, stop=frozenset(), sampling=GREEDY)
    long = Sample(limit=limit + 3, stop=frozenset(), sampling=GREEDY)
    longer = Sample(limit=limit + 20, stop=frozenset(), sampling=GREEDY)
    for shared in range(12):
        engine = Engine(model, slots=3, context=60)
        first: list[Plan] = [[Given((4, 5)), never], [Given((6, 7, 8)), long], [Given((9,)), longer]]
        run = engine.run(Request(program=program(plan, 60), seed=i) for i, plan in enumerate(first))
        assert [next(run).request.seed, next(run).request.seed] == [0, 1]
        run.close()
        plans: list[Plan] = [[Given((*cached[:shared], 22, 21)), never] for cached in engine.cached]
        for done in engine.run(Request(program=program(plan, 60), seed=i) for i, plan in enumerate(plans)):
            assert done.result == interpreted(plans[done.request.seed], model, 60, done.result[0])
