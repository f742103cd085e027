"""Prefix cache: keys and values of prefixes that programs share, such as Magpie's headers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import mlx.core as mx

from mlx_suite.engine.slots import SlotCache

MAX_TOKENS = 2048
"""Maximum tokens of all entries together in a cache without a budget in bytes."""


@dataclass(frozen=True, kw_only=True)
class PrefixEntry:
    """Leading tokens of a sequence with their keys and values, per layer."""

    tokens: list[int]
    layers: list[list[mx.array]]
    variant: str

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for layer in self.layers for array in layer)


class PrefixCache:
    """Recently used prefixes, most recent first. The most recent one is kept whatever its size.

    Args:
        max_bytes: Budget of all entries together. Default: `MAX_TOKENS` tokens.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self.max_bytes = max_bytes
        self.entries: list[PrefixEntry] = []

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in list(self.entries))

    def longest_match(
        self, start: Sequence[int], caches: Sequence[SlotCache], variant: str
    ) -> tuple[int, PrefixEntry | None]:
        """Number of reusable tokens and the entry of `variant` that shares the longest prefix with `start`."""
        found = [(reusable(start, entry.tokens, caches), entry) for entry in self.entries if entry.variant == variant]
        return max(found, key=lambda pair: pair[0], default=(0, None))

    def use(self, entry: PrefixEntry) -> None:
        """Move or add an entry to the front, and evict from the end."""
        entries = [entry, *(each for each in self.entries if each is not entry)]
        budget = MAX_TOKENS if self.max_bytes is None else self.max_bytes
        sizes = (len(each.tokens) if self.max_bytes is None else each.nbytes for each in entries)
        fitting = sum(total <= budget for total in accumulate(sizes))
        self.entries = entries[: max(1, fitting)]

    def add(self, tokens: list[int], slot: int, caches: Sequence[SlotCache], variant: str) -> None:
        """Store the keys and values of `tokens`, which a slot holds. Entries that the new one replaces are dropped."""
        # Copies: a slice would keep all of the caches' memory alive.
        layers = [[mx.contiguous(each) for each in cache.read(slot, len(tokens))] for cache in caches]
        mx.eval(layers)
        self.entries = [
            entry
            for entry in self.entries
            if entry.variant != variant or reusable(entry.tokens, tokens, caches) < len(entry.tokens)
        ]
        self.use(PrefixEntry(tokens=tokens, layers=layers, variant=variant))


def shared_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of leading tokens that two sequences share."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), min(len(one), len(other)))


def reusable(start: Sequence[int], cached: Sequence[int], caches: Sequence[SlotCache]) -> int:
    """Leading tokens of `start` that a cache holding `cached` can serve; a wrapped ring buffer cannot be rewound."""
    shared = shared_prefix(start, cached)
    wrapped = any(cache.window is not None and len(cached) >= cache.window for cache in caches)
    return 0 if wrapped and shared < len(cached) else shared
