"""Prefix cache: keys and values of prefixes that programs share, such as Magpie's headers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import mlx.core as mx

from mlx_suite.engine.slots import SlotCache

MAX_TOKENS = 2048
"""Maximum tokens of all entries together; the most recent entry is kept regardless of its length."""


@dataclass(frozen=True, kw_only=True)
class PrefixEntry:
    """A program's forced start with its keys and values, per layer."""

    tokens: list[int]
    layers: list[list[mx.array]]


class PrefixCache:
    """Recently used prefixes, most recent first."""

    def __init__(self) -> None:
        self.entries: list[PrefixEntry] = []

    def longest_match(self, start: Sequence[int], caches: Sequence[SlotCache]) -> tuple[int, PrefixEntry | None]:
        """Number of reusable tokens and the entry, for the entry that shares the longest prefix with `start`."""
        found = [(reusable(start, entry.tokens, caches), entry) for entry in self.entries]
        return max(found, key=lambda pair: pair[0], default=(0, None))

    def use(self, entry: PrefixEntry) -> None:
        """Move or add an entry to the front, and evict from the end."""
        others = [each for each in self.entries if each is not entry]
        totals = accumulate(len(each.tokens) for each in (entry, *others))
        fitting = sum(total <= MAX_TOKENS for total in totals)
        self.entries = [entry, *others][: max(1, fitting)]

    def add(self, start: list[int], slot: int, caches: Sequence[SlotCache]) -> None:
        """Store the keys and values of `start` from a slot that has just prefilled it."""
        # Copies: a slice would keep all of the caches' memory alive.
        layers = [[mx.contiguous(each) for each in cache.read(slot, len(start))] for cache in caches]
        mx.eval(layers)
        self.use(PrefixEntry(tokens=start, layers=layers))


def shared_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of leading tokens that two sequences share."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), min(len(one), len(other)))


def reusable(start: Sequence[int], cached: Sequence[int], caches: Sequence[SlotCache]) -> int:
    """Leading tokens of `start` that a cache holding `cached` can serve; a wrapped ring buffer cannot be rewound."""
    shared = shared_prefix(start, cached)
    wrapped = any(cache.window is not None and len(cached) >= cache.window for cache in caches)
    return 0 if wrapped and shared < len(cached) else shared
