"""Cost of runs: tokens fed, idle slots, compilations, copies and memory."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import mlx.core as mx
import pytest

from mlx_suite.engine import Engine, Given, Program, Request, Sample, Sampling, step
from mlx_suite.engine.slots import slot_caches
from mlx_suite.engine.step import Feed, Stepper, Variant
from tests.engine.scripted import STOP, ScriptedModel
from tests.engine.small_models import one_text, prompt_of, results, small_gemma, small_llama

HEADER = (5, 40, 41, 42, 43, 6)
REPLY = (44, 45, 7)


def magpie_row() -> Program:
    """Header, instruction, header, response; returns both lengths."""
    yield Given(HEADER)
    instruction = yield Sample(limit=96, stop=frozenset({STOP}))
    yield Given(REPLY)
    response = yield Sample(limit=160, stop=frozenset({STOP}))
    return len(instruction.tokens), len(response.tokens)


def rows(count: int) -> Iterator[Request]:
    return (Request(program=magpie_row(), seed=seed) for seed in range(count))


def talkative(instruction: int, response: int, windows: tuple[int | None, ...] = (None,)) -> ScriptedModel:
    """Writes instructions and responses with geometrically distributed lengths of these means."""
    return ScriptedModel(
        {
            6: 10,
            10: {10: 1 - 1 / instruction, STOP: 1 / instruction},
            7: 20,
            20: {20: 1 - 1 / response, STOP: 1 / response},
        },
        windows=windows,
    )


# ---- tokens


@pytest.mark.parametrize("windows", [(None,), (4,), (4, None), (64, None)], ids=str)
@pytest.mark.parametrize("slots", [3, 8])
def test_a_run_prefills_its_header_once_and_no_instruction(slots: int, windows: tuple[int | None, ...]) -> None:
    engine = Engine(talkative(20, 30, windows), slots=slots)
    lengths = results(engine.run(rows(50))).values()
    written = sum(instruction + response for instruction, response in lengths)
    stops = sum((instruction < 96) + (response < 160) for instruction, response in lengths)
    assert (written, stops) == (2438, 99)
    assert engine.stats.prefilled == len(HEADER) - 1
    # The header's last token and the response header are fed one token per step, while other slots sample.
    assert engine.stats.forced == 50 * (1 + len(REPLY))
    assert engine.stats.sampled == written + stops


def test_a_model_with_sliding_windows_prefills_its_header_once() -> None:
    model = small_gemma(window=4)
    engine = Engine(model, slots=4)
    for _ in range(2):
        sample = Sample(limit=12, stop=frozenset())
        list(engine.run(Request(program=one_text(HEADER, sample), seed=seed) for seed in range(10)))
    assert engine.stats.prefilled == len(HEADER) - 1


def test_long_forced_text_is_prefilled_once() -> None:
    def program() -> Program:
        yield Given(prompt_of(700))
        yield Sample(limit=3, stop=frozenset())
        yield Given(prompt_of(30))
        yield Sample(limit=3, stop=frozenset())

    engine = Engine(ScriptedModel({}), slots=2)
    list(engine.run(Request(program=program(), seed=i) for i in range(5)))
    assert engine.stats.prefilled == 699 + 5 * 29
    assert engine.stats.forced == 5 * 2


# ---- slots


@pytest.mark.parametrize(
    ("instruction", "response", "slots", "windows"),
    [
        (12, 25, 8, (None,)),
        (12, 25, 16, (8, None)),
        (20, 40, 8, (8, None)),
        (20, 40, 16, (None,)),
        (30, 30, 16, (None,)),
    ],
)
def test_slots_are_busy_for_95_percent_of_a_run_of_200_rows(
    instruction: int, response: int, slots: int, windows: tuple[int | None, ...]
) -> None:
    engine = Engine(talkative(instruction, response, windows), slots=slots)
    assert len(list(engine.run(rows(200)))) == 200
    assert engine.stats.busy >= 0.95
    served = engine.stats.slot_steps - engine.stats.idle
    # Each token is fed once; the last one of a row is fed unnecessarily, before it is read, and counts as idle.
    assert served == engine.stats.forced + engine.stats.sampled - 200


def test_slots_are_halved_at_the_end_of_a_run() -> None:
    engine = Engine(ScriptedModel({10: 10}), slots=8)
    programs = [one_text((10,), Sample(limit=limit, stop=frozenset())) for limit in (1, 1, 1, 1, 5, 5, 7, 9)]
    for done in engine.run(Request(program=program) for program in programs):
        assert done.result[1] == "limit"
    # A row of n tokens takes n + 1 steps, the last of them idle: 8 slots for 2 steps, 4 for 4, 2 for 2, 1 for 2.
    assert (engine.stats.steps, engine.stats.slot_steps) == (10, 8 * 2 + 4 * 4 + 2 * 2 + 1 * 2)
    assert engine.stats.idle == 8
    assert engine.stats.busy == 1 - 8 / 38


# ---- compilations


@pytest.mark.usefixtures("compiled")
def test_a_run_compiles_only_for_new_shapes_and_settings() -> None:
    model = talkative(20, 40)
    engine = Engine(model, slots=16)
    list(engine.run(rows(200)))
    # One prefill of the header; 16 slots with a capacity of 128 and of 256 tokens; three smaller numbers of slots.
    assert engine.stats.steps > 500
    assert model.traces == 1 + 2 + 3


@pytest.mark.usefixtures("compiled")
def test_a_second_run_with_the_same_shapes_compiles_nothing() -> None:
    model = talkative(20, 40)
    engine = Engine(model, slots=1)
    list(engine.run(rows(5)))
    traces = model.traces
    list(engine.run(rows(5)))
    assert model.traces == traces


@pytest.mark.usefixtures("compiled")
def test_each_kind_of_sampling_compiles_once() -> None:
    model = ScriptedModel({10: 10})
    settings = [
        Sampling(temperature=0.0),
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(top_p=0.9),
        Sampling(min_p=0.1, temperature=2.0),
        Sampling(temperature=0.0, banned=(3,)),
        Sampling(temperature=0.0, banned_first=(4,)),
    ]
    engine = Engine(model, slots=1)
    for seed in range(4):
        samples = [Sample(limit=5, stop=frozenset(), sampling=sampling) for sampling in settings]
        list(engine.run(Request(program=one_text((9, 10), sample), seed=seed) for sample in samples))
    # A prefill of one token; greedy, drawn and limited steps; greedy steps with banned ids.
    assert model.traces == 1 + 3 + 1


@pytest.mark.usefixtures("compiled")
def test_settings_that_are_off_add_nothing_to_the_compiled_step() -> None:
    engine = Engine(ScriptedModel({10: 10}), slots=1)
    off = Sampling(temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=1.0, presence_penalty=0.0, logit_bias=())
    samples = [Sample(limit=5, stop=frozenset(), sampling=each) for each in (off, replace(off, temperature=1.0))]
    list(engine.run(Request(program=one_text((9, 10), sample)) for sample in samples))
    assert set(engine.stepper.compiled) == {Variant(kind="greedy"), Variant(kind="drawn")}
    pushed = Sample(limit=5, stop=frozenset(), sampling=replace(off, repetition_penalty=1.5, logit_bias=((3, 1.0),)))
    list(engine.run([Request(program=one_text((9, 10), pushed))]))
    assert Variant(kind="greedy", bias=True, penalties=True) in engine.stepper.compiled


# ---- memory


@pytest.mark.usefixtures("compiled")
def test_steps_write_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the previous step, MLX would copy the layers it still reads."""
    monkeypatch.setattr(step, "IN_PLACE", 0)
    model = small_llama(head_dim=32)  # so that the KV cache is much larger than the activations
    caches = slot_caches(model, 16)
    for cache in caches:
        cache.reserve(1024)
    stepper = Stepper(model, caches)

    def advance(start: int, sampled: Any) -> Any:
        for position in range(start, start + 12):
            token = 5 if sampled is None else None
            feeds = [Feed(token=token, position=position, seed=i, sampling=Sampling(), first=False) for i in range(16)]
            sampled = stepper.step(feeds, sampled).tokens
        mx.eval(sampled)
        return sampled

    sampled = advance(0, None)
    gc.collect()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    advance(12, sampled)
    assert [cache.nbytes for cache in caches] == [2 * 16 * 2 * 1024 * 32 * 4] * 2
    assert mx.get_peak_memory() - before < caches[0].nbytes / 2  # one copy of keys or of values
    assert mx.get_active_memory() <= before + 4096


def test_a_prefix_cache_entry_holds_only_its_own_keys_and_values() -> None:
    engine = Engine(small_llama(), slots=32)
    for cache in engine.caches:
        cache.reserve(2048)
    gc.collect()
    before = mx.get_active_memory()
    run = engine.run(Request(program=one_text(prompt_of(40), Sample(limit=9, stop=frozenset()))) for _ in range(33))
    next(run)
    run.close()
    mx.synchronize()
    size = sum(cache.nbytes for cache in engine.caches)
    assert size == 2 * 2 * 32 * 2 * 2048 * 8 * 4
    assert mx.get_active_memory() - before < size + 2**18


@pytest.mark.usefixtures("compiled")
def test_deleting_an_engine_frees_its_memory_immediately() -> None:
    model = small_llama()
    gc.collect()
    gc.disable()
    try:
        before = mx.get_active_memory()
        engine = Engine(model, slots=16)
        for cache in engine.caches:
            cache.reserve(4096)
        list(engine.run(Request(program=one_text((5, 6, 7), Sample(limit=4, stop=frozenset()))) for _ in range(16)))
        assert mx.get_active_memory() - before > 2**23
        del engine, cache
        assert mx.get_active_memory() - before < 2**16
    finally:
        gc.enable()


def test_memory_does_not_grow_with_the_number_of_rows() -> None:
    engine = Engine(small_gemma(window=8), slots=4)
    sizes = []
    sample = Sample(limit=12, stop=frozenset())
    for _ in engine.run(Request(program=one_text(HEADER, sample), seed=seed) for seed in range(40)):
        sizes.append(mx.get_active_memory())
    assert max(sizes[8:]) - min(sizes[4:12]) < 2**16


def test_the_mask_of_banned_ids_is_reused_while_the_bans_stay_the_same() -> None:
    def feeds(*bans: tuple[int, ...]) -> list[Feed]:
        samplings = [Sampling(banned=banned) for banned in bans]
        return [Feed(token=1, position=0, seed=0, sampling=each, first=False) for each in samplings]

    stepper = Stepper(small_llama(), [])
    rows = stepper.ban_rows(feeds((3,), (4,)))
    assert rows is not None and rows.shape == (2, 64)
    assert stepper.ban_rows(feeds((3,), (4,))) is rows
    assert stepper.ban_rows(feeds((), ())) is None
    other = stepper.ban_rows(feeds((4,), (3,)))
    assert other is not None and other[:, 3].tolist() == [False, True]
