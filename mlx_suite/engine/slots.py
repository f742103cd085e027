"""KV caches for a fixed set of slots, each at its own position.

A slot cache is passed as a layer's cache (mlx-lm's calling convention), so every architecture whose layers cache plain
keys and values runs in the engine. A decode step advances all slots by one token; `SlotRows` prefills some slots;
`SlotFork` runs continuations of a slot without changing it.

Keys are stored after rotary embedding, so their order in memory does not matter.

Shapes: S slots, H key heads, C capacity, D head dimension, T tokens of a chunk.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from mlx_suite.modeling.masks import Mask
from mlx_suite.runtime.errors import UserError

GROWTH = 128
"""Smallest increment of a cache's capacity. Growing copies the cache and recompiles the step."""


def rounded_capacity(tokens: int) -> int:
    """The capacity of a cache that needs `tokens`: a multiple of `GROWTH`, and of an eighth of the last power of two.

    So a long text grows its cache a few times only, by at most a quarter.
    """
    step = max(GROWTH, 1 << (tokens - 1).bit_length() >> 3)
    return -(-tokens // step) * step


class SlotCache:
    """Keys and values of one layer for all slots; with a window W, a ring buffer with position p at index p mod W."""

    def __init__(self, slots: int, window: int | None = None) -> None:
        self.slots, self.window = slots, window
        self.state: list[mx.array] = []
        """[keys, values], (S, H, C, D) each; empty until H and D are known from the first tokens."""
        self.offset: mx.array = mx.zeros((slots,), mx.int32)
        """(S,) position of each slot's next token."""
        self.capacity = 0

    def capacity_for(self, tokens: int) -> int:
        """Capacity needed for `tokens` per slot; at least the current one."""
        return max(self.capacity, self._rounded(tokens))

    def _rounded(self, tokens: int) -> int:
        needed = rounded_capacity(tokens)
        return needed if self.window is None else min(needed, self.window)

    def reserve(self, tokens: int) -> bool:
        """Grow to at least `tokens` per slot, keeping the content. Returns whether the arrays were reallocated."""
        self.capacity = self.capacity_for(tokens)
        if not self.state or self.state[0].shape[2] >= self.capacity:
            return False
        self.state[:] = [_lengthened(each, self.capacity) for each in self.state]
        return True

    def can_shorten(self, tokens: int) -> bool:
        """Whether half of the capacity suffices for `tokens` per slot. A full ring buffer is never shortened."""
        return self.capacity != self.window and 2 * self._rounded(tokens) <= self.capacity

    def shorten(self, tokens: int) -> None:
        """Reduce the capacity to `tokens` per slot if `can_shorten`."""
        if self.can_shorten(tokens):
            self.capacity = self._rounded(tokens)
            self.state[:] = [mx.contiguous(each[:, :, : self.capacity]) for each in self.state]

    def allocate(self, keys: mx.array, values: mx.array) -> None:
        """Allocate with the heads, head dimensions and dtypes of the first keys and values."""
        if not self.state:
            for like in (keys, values):
                _, H, _, D = like.shape
                self.state.append(mx.zeros((self.slots, H, self.capacity, D), like.dtype))

    def index(self, position: Any) -> Any:
        return position if self.window is None else position % self.window

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Write one new token per slot at the slot's position; returns all keys and values."""
        assert keys.shape[2] == 1
        self.allocate(keys, values)
        at = self.index(self.offset)[:, None, None, None]
        self.state[:] = [
            mx.put_along_axis(cached, mx.broadcast_to(at, new.shape), new, axis=2)
            for cached, new in zip(self.state, (keys, values), strict=True)
        ]
        return self.state[0], self.state[1]

    def make_mask(self, length: int, return_array: bool = True, window_size: int | None = None) -> mx.array:
        """(S, 1, 1, C) mask of the positions that each slot's next token sees, its own included.

        In a ring buffer every index up to the position is within the window, and all indices are once it is full.
        """
        index = mx.arange(self.capacity)
        visible = index <= self.offset[:, None]
        if self.window is None and window_size is not None:
            visible = visible & (index > self.offset[:, None] - window_size)
        return visible[:, None, None, :]

    def read(self, slot: int, length: int) -> list[mx.array]:
        """Keys and values of the first `length` tokens of a slot, in order of position: (1, H, ≤ length, D)."""
        rows = [each[slot : slot + 1] for each in self.state]
        if self.window is None or length <= self.window:
            return [each[:, :, :length] for each in rows]
        order = mx.array([p % self.window for p in range(length - self.window, length)])
        return [mx.take(each, order, axis=2) for each in rows]

    def restore(self, slot: int, length: int, saved: list[mx.array]) -> None:
        """Write back the result of `read`, up to position `length`."""
        self.allocate(*saved)
        self.write(slot, length - saved[0].shape[2], saved)

    def write(self, slot: int, start: int, new: list[mx.array]) -> None:
        """Store the keys and values of positions start, start + 1, …; a ring buffer keeps the last W."""
        end = start + new[0].shape[2]
        first = start if self.window is None else max(start, end - self.window)
        if first == end:
            return
        # A chunk that wraps around the ring buffer is written in two pieces.
        at, size = self.index(first), end - first
        before = size if self.window is None else min(size, self.window - at)
        for cached, each in zip(self.state, new, strict=True):
            late = each[:, :, first - start :]
            cached[slot : slot + 1, :, at : at + before] = late[:, :, :before]
            if before < size:
                cached[slot : slot + 1, :, : size - before] = late[:, :, before:]

    def add_slots(self, count: int) -> None:
        """Append empty slots."""
        self.slots += count
        self.state[:] = [mx.concatenate([each, mx.zeros((count, *each.shape[1:]), each.dtype)]) for each in self.state]

    def keep_slots(self, slots: list[int]) -> None:
        """Drop all other slots."""
        self.slots = len(slots)
        self.state[:] = [each[mx.array(slots)] for each in self.state]

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in self.state)

    def slot_bytes(self, tokens: int) -> int:
        """Bytes per slot with a capacity of `tokens`; 0 before the first tokens."""
        return sum(each.nbytes // each.shape[0] // each.shape[2] for each in self.state) * self.capacity_for(tokens)


class SlotFork:
    """Forks of one slot's KV cache for a batch of continuations, which are not stored."""

    def __init__(self, cache: SlotCache, slot: int, position: int) -> None:
        self.cache, self.slot, self.offset = cache, slot, position

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.cache.allocate(keys, values)
        old = self.cache.read(self.slot, self.offset)
        copies = keys.shape[0]
        joined = [
            mx.concatenate([mx.repeat(each, copies, axis=0), new], axis=2)
            for each, new in zip(old, (keys, values), strict=True)
        ]
        return joined[0], joined[1]

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> Mask:
        """Mask of the positions that the next `length` tokens see in the slot and among themselves."""
        window = self.cache.window or window_size
        kept = min(self.offset, self.cache.window or self.offset)
        return continued_mask(self.offset - kept, self.offset, length, window, return_array)


class SlotDraft:
    """Tokens after a slot's content that are stored only once it is known how many of them stay.

    So a ring buffer loses nothing to tokens that are dropped. Tokens may be fed in several calls.
    """

    def __init__(self, cache: SlotCache, slot: int, position: int) -> None:
        self.cache, self.slot, self.start, self.offset = cache, slot, position, position
        self.new: list[mx.array] = []
        """[keys, values] of the tokens fed, (1, H, T, D) each."""

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.cache.allocate(keys, values)
        before = zip(self.new, (keys, values), strict=True)
        self.new = [mx.concatenate(list(pair), axis=2) for pair in before] if self.new else [keys, values]
        self.offset += keys.shape[2]
        held = zip(self.cache.read(self.slot, self.start), self.new, strict=True)
        joined = [mx.concatenate(list(pair), axis=2) for pair in held]
        return joined[0], joined[1]

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> Mask:
        """Mask of the positions that the next `length` tokens see."""
        window = self.cache.window or window_size
        kept = min(self.start, self.cache.window or self.start)
        return continued_mask(self.start - kept, self.offset, length, window, return_array)

    def store(self, tokens: int) -> None:
        """Keep the first `tokens` of the tokens fed."""
        self.cache.write(self.slot, self.start, [each[:, :, :tokens] for each in self.new])


class SlotRows(SlotFork):
    """Prefill of N slots at the same position: a chunk of tokens for each, padded at the end to one length."""

    def __init__(
        self,
        cache: SlotCache,
        slots: Sequence[int],
        lengths: Sequence[int],
        position: int,
        totals: Sequence[int] | None = None,
    ) -> None:
        """`totals`: tokens of each slot's whole text, which is read in several chunks."""
        super().__init__(cache, slots[0], position)
        self.slots, self.lengths = slots, lengths
        self._totals = totals if totals is not None else [position + length for length in lengths]

    @property
    def length(self) -> mx.array:
        """(N,) length of each sequence, for RoPE that depends on it."""
        return mx.array(list(self._totals))

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.cache.allocate(keys, values)
        held = [self.cache.read(slot, self.offset) for slot in self.slots]
        joined = [
            mx.concatenate([mx.concatenate(list(old), axis=0), new], axis=2)
            for old, new in zip(zip(*held, strict=True), (keys, values), strict=True)
        ]
        for row, (slot, length) in enumerate(zip(self.slots, self.lengths, strict=True)):
            self.cache.write(slot, self.offset, [new[row : row + 1, :, :length] for new in (keys, values)])
        return joined[0], joined[1]


def continued_mask(first: int, position: int, length: int, window: int | None, return_array: bool) -> Mask:
    """Mask of the keys from position `first` that `length` tokens from `position` see: causal, in the window."""
    if window is None and (length == 1 or not return_array):
        return None if length == 1 else "causal"
    key = mx.arange(first, position + length)
    query = mx.arange(position, position + length)[:, None]
    visible = key <= query
    return visible if window is None else visible & (key > query - window)


def _lengthened(array: mx.array, capacity: int) -> mx.array:
    S, H, C, D = array.shape
    return mx.concatenate([array, mx.zeros((S, H, capacity - C, D), array.dtype)], axis=2)


def slot_caches(model: Any, slots: int) -> list[SlotCache]:
    """One slot cache per layer of `model`. Raises UserError for layers that cache anything but keys and values."""
    windows = getattr(getattr(model, "config", None), "windows", None)
    if windows is not None:
        return [SlotCache(slots, window) for window in windows]
    from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache

    caches = []
    for cache in make_prompt_cache(model):
        if type(cache) is KVCache:
            caches.append(SlotCache(slots))
        elif type(cache) is RotatingKVCache and cache.keep == 0:
            caches.append(SlotCache(slots, cache.max_size))
        else:
            raise UserError(
                f"{type(model).__module__.split('.')[-1]} layers use a {type(cache).__name__}, which cannot be rewound "
                "or shared between rows",
                where="the model's architecture",
                fix="use a model whose layers cache plain keys and values (Llama, Mistral, Gemma, Qwen, Phi, ...)",
            )
    return caches
