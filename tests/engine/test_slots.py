"""Slot caches compared with a forward pass over the full text, for every operation on a slot."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_suite.engine import Engine, Request, Sample, slots
from mlx_suite.engine.slots import SlotCache, SlotFork, SlotRows, slot_caches
from tests.engine.small_models import one_text, prompt_of, small_gemma, small_llama, small_mistral

FAMILIES = {
    "full": lambda window: small_llama(vocab_size=64),
    "rings": lambda window: small_mistral(window=window),
    "both": lambda window: small_gemma(window=window),
}
made: dict[tuple[str, int], Any] = {}


def model_of(family: str, window: int) -> Any:
    key = (family, 0 if family == "full" else window)
    if key not in made:
        made[key] = FAMILIES[family](window)
    return made[key]


class Twin:
    """Slots, and the texts that they should hold. All logits are compared."""

    def __init__(self, model: Any, slots: int) -> None:
        self.model, self.caches = model, slot_caches(model, slots)
        self.texts: list[list[int]] = [[] for _ in range(slots)]
        self.saved: tuple[list[int], list[list[mx.array]]] | None = None
        self.idled: set[int] = set()
        """Slots that were free in the last step, whose ring buffers may lack the oldest key."""
        self.next = 0

    def tokens(self, count: int) -> list[int]:
        """Tokens not used recently."""
        self.next += count
        return [(self.next - count + i) * 7 % 64 for i in range(count)]

    def same(self, logits: mx.array, text: Sequence[int]) -> None:
        """Assert that `logits` (T, V) are those of the last T tokens of `text`."""
        whole = self.model(mx.array([list(text)]))[0, -logits.shape[0] :]
        np.testing.assert_allclose(np.array(logits), np.array(whole), atol=1e-4, rtol=1e-4)

    def reserve(self, tokens: int) -> None:
        for cache in self.caches:
            cache.reserve(tokens)

    def chunk(self, slot: int, count: int) -> None:
        """Prefill a slot with a chunk of tokens."""
        self.idled.discard(slot)
        text, new = self.texts[slot], self.tokens(count)
        self.reserve(len(text) + count)
        logits = self.model(
            mx.array([new]), cache=[SlotRows(cache, [slot], [len(new)], len(text)) for cache in self.caches]
        )
        text += new
        self.same(logits[0], text)

    def step(self, idle: int) -> None:
        """Decode one token in every slot. A free slot (`idle`) writes after its content."""
        self.idled = {idle}
        new = self.tokens(len(self.texts))
        self.reserve(1 + max(map(len, self.texts)))
        for cache in self.caches:
            cache.offset = mx.array([len(text) for text in self.texts])
        logits = self.model(mx.array(new)[:, None], cache=self.caches)
        for slot, token in enumerate(new):
            if slot != idle:
                self.texts[slot].append(token)
                self.same(logits[slot], self.texts[slot])

    def again(self, slot: int) -> None:
        """Feed the last token again, as happens after sampled text without further forced text."""
        text = self.texts[slot]
        if text and slot not in self.idled:
            logits = self.model(
                mx.array([[text[-1]]]), cache=[SlotRows(cache, [slot], [1], len(text) - 1) for cache in self.caches]
            )
            self.same(logits[0], text)

    def fork(self, slot: int, count: int) -> None:
        """Run two continuations in a batch and keep neither."""
        text, new = self.texts[slot], [self.tokens(count), self.tokens(count)]
        logits = self.model(mx.array(new), cache=[SlotFork(cache, slot, len(text)) for cache in self.caches])
        for row, continuation in zip(logits, new, strict=True):
            self.same(row, text + continuation)

    def save(self, slot: int) -> None:
        text = self.texts[slot]
        if text:
            layers = [[mx.contiguous(each) for each in cache.read(slot, len(text))] for cache in self.caches]
            self.saved = list(text), layers

    def restore(self, slot: int) -> None:
        if self.saved is not None:
            text, layers = self.saved
            self.reserve(len(text))
            for cache, layer in zip(self.caches, layers, strict=True):
                cache.restore(slot, len(text), layer)
            self.texts[slot] = list(text)
            self.idled.discard(slot)

    def rewind(self, slot: int, count: int) -> None:
        """Go back to an earlier position, unless a ring buffer has wrapped."""
        if all(cache.window is None or len(self.texts[slot]) < cache.window for cache in self.caches):
            del self.texts[slot][count:]

    def keep(self, slots: list[int]) -> None:
        for cache in self.caches:
            cache.keep_slots(slots)
        self.texts = [self.texts[slot] for slot in slots]
        self.idled = {new for new, old in enumerate(slots) if old in self.idled}


slot = st.integers(0, 2)
moves = st.lists(
    st.tuples(st.just("chunk"), slot, st.integers(1, 12))
    | st.tuples(st.just("step"), st.integers(-3, 2), st.just(0))
    | st.tuples(st.just("step"), st.integers(-3, 2), st.just(0))
    | st.tuples(st.sampled_from(["again", "save", "restore", "keep"]), slot, st.just(0))
    | st.tuples(st.just("fork"), slot, st.integers(1, 5))
    | st.tuples(st.just("rewind"), slot, st.integers(0, 10)),
    min_size=1,
    max_size=14,
)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(FAMILIES)), st.integers(1, 8), moves)
def test_slots_give_the_logits_of_a_full_forward_pass(
    family: str, window: int, moves: list[tuple[str, int, int]]
) -> None:
    twin = Twin(model_of(family, window), slots=3)
    for move, place, count in moves:
        where = place % len(twin.texts)
        if move == "step":
            twin.step(place)
        elif move == "keep":
            twin.keep([i for i in range(len(twin.texts)) if i != where] or [where])
        elif move in ("again", "save", "restore"):
            getattr(twin, move)(where)
        else:
            getattr(twin, move)(where, count)


@pytest.mark.parametrize("window", range(1, 9))
@pytest.mark.parametrize("family", ["rings", "both"])
def test_ring_buffers_are_right_for_windows_from_1_to_8(family: str, window: int) -> None:
    """Chunks shorter and longer than the window, decode steps between them, and a save after the ring has wrapped."""
    twin = Twin(model_of(family, window), slots=2)
    for count in (1, 3, window, 2 * window + 3):
        twin.chunk(0, count)
        twin.step(idle=1)
        twin.step(idle=-1)
        twin.again(0)
        twin.fork(0, 4)
    twin.save(0)
    twin.restore(1)
    twin.keep([1])
    twin.step(idle=-1)
    twin.chunk(0, 5)


def test_a_ring_buffer_has_the_size_of_its_window() -> None:
    cache = SlotCache(slots=3, window=8)
    for tokens, capacity in ((1, 8), (8, 8), (16, 8), (1000, 8)):
        cache.reserve(tokens)
        assert cache.capacity == capacity
    everything = SlotCache(slots=3)
    everything.reserve(1000)
    assert everything.capacity == 1024


def test_local_layers_need_no_more_memory_for_texts_of_twice_the_window() -> None:
    """Bytes: 4 slots x 2 key heads x positions x 8 dimensions x 4 bytes, keys and values."""
    model = small_gemma(window=256, num_hidden_layers=4)
    engine = Engine(model, slots=4, context=512)
    requests = [
        Request(program=one_text(prompt_of(500, seed=i), Sample(limit=12, stop=frozenset())), seed=i) for i in range(8)
    ]
    sizes = set()
    for _ in engine.run(requests):
        sizes.add((len(engine.states), tuple(cache.nbytes for cache in engine.caches)))
    local, everything = 2 * 4 * 2 * 256 * 8 * 4, 2 * 4 * 2 * 512 * 8 * 4
    assert (local, everything) == (131072, 262144)
    assert (4, (local, everything, local, everything)) in sizes
    assert max(sum(each) for _, each in sizes) == 0.75 * 4 * everything


def test_slots_grow_without_changing_their_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "GROWTH", 16)
    twin = Twin(model_of("both", 24), slots=2)
    sizes = []
    for count in (6, 9, 20, 40):
        twin.chunk(0, count)
        twin.chunk(1, 3)
        for _ in range(3):
            twin.step(idle=-1)
        sizes.append([cache.capacity for cache in twin.caches])
    assert sizes == [[16, 16], [24, 32], [24, 48], [24, 96]]


def test_a_model_may_request_its_mask_as_an_array() -> None:
    cache = SlotCache(slots=2)
    for length, offset in ((1, 0), (4, 0), (1, 5), (3, 5)):
        fork = SlotFork(cache, 0, offset)
        expected = [[k <= q for k in range(offset + length)] for q in range(offset, offset + length)]
        assert fork.make_mask(length) == (None if length == 1 else "causal")
        if length > 1:
            mask: Any = fork.make_mask(length, return_array=True)
            assert mask.tolist() == expected
        windowed: Any = fork.make_mask(length, window_size=2)
        near = [
            [visible and k > q - 2 for k, visible in enumerate(row)] for q, row in enumerate(expected, start=offset)
        ]
        assert windowed.tolist() == near
