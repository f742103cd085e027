"""An engine's decode steps go over to copies of the weights, which change no text and give way to KV caches."""

import gc
from collections.abc import Iterator

import mlx.core as mx
import pytest

from mlx_suite.engine import Engine, Request, Sample
from mlx_suite.modeling import blocked, linear
from mlx_suite.runtime.few_rows import Forms, block_of
from tests.engine.small_models import one_text, results, small_llama, write

PROMPT = (5, 6, 7)
SAMPLE = Sample(limit=24, stop=frozenset())


@pytest.fixture(autouse=True)
def copied_everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every matrix that can be cut into blocks is worth a copy, and one is made with each step."""

    def measured(outputs: int, inputs: int) -> Forms:
        return Forms(blocked=32 if block_of(outputs, inputs) else 0)

    for module in (blocked, linear):
        monkeypatch.setattr(module, "measured", measured)
    monkeypatch.setattr(blocked, "PER_STEP", 1)
    monkeypatch.setattr(blocked, "processes_here", lambda: 1)
    yield
    gc.collect()
    assert not blocked._made, "copies outlive their engine"


@pytest.mark.usefixtures("compiled")
def test_once_all_copies_are_made_the_step_is_compiled_again_and_reads_them(
    rows_by_blocks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_llama()
    engine = Engine(model, slots=1)
    count = len(engine.stepper.copies._left)
    assert count > 4
    text = write(engine, PROMPT, SAMPLE)
    assert rows_by_blocks == [1] * count  # each product once, when the step was traced
    del engine
    gc.collect()
    monkeypatch.setattr(blocked, "MOST_MEMORY", 10**12)
    plain = Engine(model, slots=1)
    assert write(plain, PROMPT, SAMPLE) == text
    assert rows_by_blocks == [1] * count


def test_an_engine_that_starts_again_takes_the_copies_over(rows_by_blocks: list[int]) -> None:
    engine = Engine(small_llama(), slots=1)
    write(engine, PROMPT, SAMPLE)
    rows_by_blocks.clear()
    engine.close_slots()
    assert engine.stepper.copies.ready
    write(engine, PROMPT, Sample(limit=1, stop=frozenset()))
    assert rows_by_blocks


def test_copies_give_way_before_slots_do() -> None:
    engine = Engine(small_llama(num_key_value_heads=4, head_dim=128), slots=2)
    write(engine, PROMPT, Sample(limit=100, stop=frozenset()))  # allocates 128 positions, and makes all copies
    copies = sum(each.blocks.nbytes for each in engine.stepper.copies.ready)
    assert copies > 0
    others = mx.get_active_memory() - sum(cache.nbytes for cache in engine.caches) - copies
    sizes = [cache.slot_bytes(256) for cache in engine.caches]
    engine.budget.limit = others + 2 * (sum(sizes) + max(sizes)) + copies // 2  # two slots of 256 positions, no copies

    def requests() -> Iterator[Request]:
        for seed in range(2):
            program = one_text(PROMPT, Sample(limit=200, stop=frozenset()))
            yield Request(program=program, seed=seed, renew=lambda: one_text(PROMPT, SAMPLE))

    assert [len(tokens) for tokens, _ in results(engine.run(requests())).values()] == [200, 200]
    assert engine.stepper.copies.ready == []
    assert (engine.slots, engine.stats.restarted) == (2, 0)
