"""Requests that arrive, fail and are cancelled while others run, as a server has them."""

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.engine import Cancelled, Engine, Given, Program, Request, Sample, Written
from mlx_suite.engine.prefill import CHUNK
from mlx_suite.engine.prefix_cache import PrefixCache
from tests.engine.scripted import CHAIN, STOP, HistoryModel, ScriptedModel, outcomes, upto
from tests.engine.small_models import small_gemma, small_gemma3, small_llama

MODELS = {"llama": small_llama, "gemma with a window of 8": small_gemma, "gemma 3": small_gemma3}


def text(prompt: tuple[int, ...], limit: int) -> Program:
    yield Given(prompt)
    written: Written = yield Sample(limit=limit, stop=frozenset({STOP}))
    return written.tokens


def prompt_of(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(mx.random.randint(1, 20, (length,), key=mx.random.key(seed)).tolist())


def test_the_error_of_a_program_is_raised_by_its_result() -> None:
    def failing() -> Program:
        yield Given((5, 12))
        raise KeyError("a bug of the program")

    [done] = Engine(ScriptedModel(CHAIN), slots=2).run([Request(program=failing())])
    with pytest.raises(KeyError, match="a bug of the program"):
        _ = done.result


def test_an_error_in_on_token_ends_its_own_program() -> None:
    def on_token(token: int) -> None:
        raise BrokenPipeError("the reader has gone")

    closed = []

    def program() -> Program:
        try:
            yield Given((10,))
            yield upto(9)
        finally:
            closed.append(True)

    engine = Engine(ScriptedModel(CHAIN), slots=2)
    requests = [Request(program=program(), seed=0, on_token=on_token), Request(program=text((10,), 4), seed=1)]
    done = {each.request.seed: each for each in engine.run(requests)}

    assert isinstance(done[0].error, BrokenPipeError)
    assert closed == [True]
    assert done[1].result == (11, 12, 13, 14)


def test_a_request_can_be_cancelled_while_it_runs_while_it_waits_and_before_its_slot_is_prefilled() -> None:
    requests = [Request(program=text((10,), 9), seed=seed) for seed in range(3)]
    requests.append(Request(program=text(prompt_of(2 * CHUNK), 9), seed=3))
    requests[2].cancel()
    tokens: list[int] = []

    def on_token(token: int) -> None:
        tokens.append(token)
        if len(tokens) == 2:
            requests[0].cancel()
            requests[3].cancel()

    requests[0].on_token = on_token
    engine = Engine(ScriptedModel(CHAIN), slots=2)
    done = {each.request.seed: each for each in engine.run([requests[0], requests[3], requests[1], requests[2]])}

    assert tokens == [11, 12]
    assert {seed: type(each.error) for seed, each in done.items()} == {
        0: Cancelled,
        1: type(None),
        2: Cancelled,
        3: Cancelled,
    }
    assert done[1].result == tuple(range(11, 20))
    assert not any(engine.states)


def test_requests_arrive_while_nothing_runs() -> None:
    """The source may wait when nothing runs; it sees that in `engine.running`."""
    engine = Engine(ScriptedModel(CHAIN), slots=2)
    waits = []

    def source() -> Iterator[Request | None]:
        yield Request(program=text((10,), 2), seed=0)
        while engine.running:
            yield None
        waits.append(engine.stats.sampled)  # a server would wait for its queue here
        yield Request(program=text((12,), 3), seed=1)

    assert [done.result for done in engine.run(source())] == [(11, 12), (13, 14, 15)]
    assert waits == [2]


def test_a_running_text_pauses_for_one_chunk_at_a_time() -> None:
    engine = Engine(HistoryModel([None], [None]), slots=3, context=8192)
    prefilled: list[int] = []

    def on_token(token: int) -> None:
        prefilled.append(engine.stats.prefilled)

    def source() -> Iterator[Request | None]:
        yield Request(program=text((1, 2), 40), seed=0, on_token=on_token)
        for _ in range(4):
            yield None
        yield Request(program=text((21, *prompt_of(3 * CHUNK + 6)), 1), seed=1)
        yield Request(program=text((22, *prompt_of(2 * CHUNK - 1)), 1), seed=2)

    list(engine.run(source()))

    pauses = [after - before for before, after in zip(prefilled, prefilled[1:], strict=False)]
    assert max(pauses) <= CHUNK
    assert sum(pauses) == 5 * CHUNK + 5


def test_prompts_that_wait_are_prefilled_in_one_forward_pass() -> None:
    model = ScriptedModel(CHAIN)
    engine = Engine(model, slots=8)
    prompts = [(*prompt_of(20 + i, seed=i), 10) for i in range(8)]

    found = [
        done.result for done in engine.run(Request(program=text(each, 3), seed=i) for i, each in enumerate(prompts))
    ]

    assert found == [(11, 12, 13)] * 8
    assert model.traces == 1 + engine.stats.steps  # one prefill
    assert engine.stats.prefilled == sum(map(len, prompts)) - 8


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=5, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=2, max_size=7),
    gaps=st.lists(st.integers(0, 6), min_size=7, max_size=7),
    cancelled=st.sets(st.integers(0, 6), max_size=3),
    shared=st.integers(0, 12),
)
def test_texts_do_not_depend_on_what_arrives_and_leaves(
    name: str, lengths: list[int], gaps: list[int], cancelled: set[int], shared: int
) -> None:
    model = MODELS[name]()
    start = prompt_of(shared, seed=99)
    prompts = [(*start, *prompt_of(length, seed=i)) for i, length in enumerate(lengths)]
    alone = []
    for seed, prompt in enumerate(prompts):
        [done] = Engine(model, slots=1, context=64).run([Request(program=text(prompt, 12), seed=seed)])
        alone.append(done.result)
    requests = [Request(program=text(prompt, 12), seed=i, keep=True) for i, prompt in enumerate(prompts)]

    def source() -> Iterator[Request | None]:
        for request, gap in zip(requests, gaps, strict=False):
            for _ in range(gap if engine.running else 0):
                yield None
            yield request
            if request.seed in cancelled:
                requests[request.seed // 2].cancel()

    engine = Engine(model, slots=3, context=64)
    for done in engine.run(source()):
        if done.error is None:
            assert done.result == alone[done.request.seed]


# ---- the prefix cache


@pytest.mark.parametrize("name", MODELS)
def test_the_next_turn_prefills_only_what_is_new(name: str) -> None:
    engine = Engine(MODELS[name](), slots=1, context=256)
    sequence, new = prompt_of(20), prompt_of(6)
    for turn in range(3):
        prefilled = engine.stats.prefilled
        [done] = engine.run([Request(program=text(sequence, 10), keep=True)])
        if turn:
            # The last sampled token has not been fed, and the last token of the prompt is fed by a decode step.
            assert engine.stats.prefilled - prefilled <= 1 + len(new) - 1
            assert done.reused >= len(sequence) - len(new) - 1
        # Another conversation takes the slot.
        list(engine.run([Request(program=text(prompt_of(30, seed=7 + turn), 5))]))
        sequence = (*sequence, *done.result, *new)


def test_a_sequence_is_kept_only_if_the_request_asks_for_it() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    list(engine.run([Request(program=text((5, 6, 10), 3))]))
    assert [entry.tokens for entry in engine.prefixes.entries] == [[5, 6]]
    list(engine.run([Request(program=text((5, 6, 10), 3), keep=True)]))
    assert [entry.tokens for entry in engine.prefixes.entries] == [[5, 6, 10, 11, 12, 13]]


def test_a_budget_in_bytes_evicts_the_oldest_prefixes() -> None:
    engine = Engine(small_llama(), slots=1, context=256, prefixes=PrefixCache(max_bytes=20_000))
    for seed in range(5):
        list(engine.run([Request(program=text(prompt_of(30, seed=seed), 4), keep=True)]))
    entries = engine.prefixes.entries
    assert 1 < len(entries) < 10
    assert sum(entry.nbytes for entry in entries) <= 20_000
    assert entries[0].tokens[:30] == list(prompt_of(30, seed=4))


def test_engines_of_another_variant_do_not_reuse_a_prefix() -> None:
    prefixes = PrefixCache(max_bytes=1_000_000)
    results: dict[str, Any] = {}
    for variant in ("base", "base with an adapter", "base"):
        engine = Engine(ScriptedModel(CHAIN), slots=1, prefixes=prefixes, variant=variant)
        [done] = engine.run([Request(program=outcomes(Given((5, 6, 7, 10)), upto(2)))])
        results.setdefault(variant, []).append(done.reused)
    assert results == {"base": [0, 3], "base with an adapter": [0]}


def test_the_first_token_of_a_streamed_text_is_read_before_the_next_step_is_launched() -> None:
    engine = Engine(ScriptedModel(CHAIN), slots=1)
    launched: list[int] = []
    request = Request(program=text((10,), 4), on_token=lambda token: launched.append(engine.stats.steps))
    list(engine.run([request]))
    assert launched == [1, 3, 4, 5]


def test_a_short_start_is_stored_when_its_request_ends_or_if_another_one_waits_for_it() -> None:
    def stored_at_first_token(*requests: Request) -> list[int]:
        engine = Engine(small_llama(), slots=2, prefixes=PrefixCache(max_bytes=1 << 30))
        lengths: list[int] = []
        requests[0].on_token = lambda token: lengths.append(
            max((len(e.tokens) for e in engine.prefixes.entries), default=0)
        )
        list(engine.run(requests))
        return [lengths[0], max(len(entry.tokens) for entry in engine.prefixes.entries)]

    prompt = prompt_of(100)
    alone = Request(program=text(prompt, 3), keep=True)
    assert stored_at_first_token(alone) == [0, 103]
    first, second = (Request(program=text(prompt, 3), seed=seed, keep=True) for seed in range(2))
    assert stored_at_first_token(first, second) == [99, 103]
