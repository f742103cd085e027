"""Memory budget: the engine continues with fewer slots, and all texts stay the same."""

from collections.abc import Iterator

import mlx.core as mx
import pytest

from mlx_suite.engine import Engine, Given, Program, Request, Sample, Sampling
from tests.engine.small_models import prompt_of, results, small_gemma, small_llama

LONG = Sample(limit=280, stop=frozenset(), sampling=Sampling(temperature=1.0))
SHORT = Sample(limit=20, stop=frozenset(), sampling=Sampling(temperature=1.0))
LARGE = {"num_key_value_heads": 4, "head_dim": 128}
"""A KV cache of 8 KB per token, larger than everything else in memory."""


def program(seed: int) -> Program:
    """Every second text is long and needs a capacity of 3 x 128 positions."""
    yield Given(prompt_of(10, seed=seed % 3))
    written = yield LONG if seed % 2 == 0 else SHORT
    return written.tokens


def requests(count: int, renewable: bool = True) -> Iterator[Request]:
    for seed in range(count):
        renew = (lambda seed=seed: program(seed)) if renewable else None
        yield Request(program=program(seed), seed=seed, renew=renew)


def bytes_for(model: object, slots: int, tokens: int) -> int:
    """Bytes in use when `slots` slots have a capacity of `tokens` and one layer is being reallocated."""
    engine = Engine(model, slots=1)
    list(engine.run(requests(1)))
    sizes = [cache.slot_bytes(1) * tokens // cache.capacity for cache in engine.caches]
    return mx.get_active_memory() - sum(cache.nbytes for cache in engine.caches) + slots * (sum(sizes) + max(sizes))


@pytest.mark.slow
@pytest.mark.parametrize("make", [small_llama, small_gemma])
def test_fewer_slots_write_the_same_texts(make: type) -> None:
    model = make(**LARGE)
    free = Engine(model, slots=6)
    expected = results(free.run(requests(12)))
    limited = Engine(model, slots=6, limit=bytes_for(model, 5, 256) if make is small_llama else 1)

    assert results(limited.run(requests(12))) == expected
    assert limited.stats.restarted > 0
    assert limited.slots < free.slots
    assert free.stats.restarted == 0


def test_the_memory_budget_is_not_exceeded() -> None:
    model = small_llama(**LARGE)
    limit = bytes_for(model, 5, 256)
    engine = Engine(model, slots=6, limit=limit)
    mx.reset_peak_memory()
    done = results(engine.run(requests(12)))

    assert len(done) == 12
    # Three slots with 3 x 128 positions, where six slots had 128.
    assert engine.slots == 3
    assert mx.get_peak_memory() <= 1.02 * limit


def test_programs_that_cannot_be_renewed_keep_their_slots() -> None:
    model = small_llama()
    engine = Engine(model, slots=4, limit=1)

    assert len(results(engine.run(requests(8, renewable=False)))) == 8
    assert engine.slots == 4
    assert engine.stats.restarted == 0


@pytest.mark.slow
def test_one_slot_is_kept_even_with_no_memory_to_spare() -> None:
    model = small_llama()
    engine = Engine(model, slots=4, limit=1)

    assert len(results(engine.run(requests(8)))) == 8
    assert engine.slots == 1
