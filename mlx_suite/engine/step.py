"""The compiled decode step: feed one token per slot and sample the next.

Shapes: S slots, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import mlx.core as mx
import numpy as np

from mlx_suite.engine.program import Sampling
from mlx_suite.engine.sampling import draw, uniform
from mlx_suite.engine.slots import SlotCache
from mlx_suite.modeling.head import vocabulary_size
from mlx_suite.runtime.debug import check_indices

GREEDY = Sampling(temperature=0.0)

IN_PLACE = 1 << 25
"""KV cache size in bytes from which a step waits for the previous one before it is launched.

MLX writes in place only if no running computation still reads the array, and otherwise into a copy; for small caches
the copy costs less than the wait.
"""

Kind = Literal["greedy", "drawn", "limited"]
"""Kind of sampling in a step: greedy, drawn, or drawn with top-p or min-p, which needs a sort."""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Input of one slot to a step."""

    token: int | None
    """Token to feed; None feeds the one sampled in the previous step."""
    position: int
    seed: int
    sampling: Sampling
    first: bool
    """Whether the sampled token is the first of its segment."""

    @property
    def banned(self) -> tuple[int, ...]:
        return self.sampling.banned + (self.sampling.banned_first if self.first else ())


class Stepper:
    """The decode step, compiled per number of slots, cache capacity and kind of sampling."""

    def __init__(self, model: Any, caches: list[SlotCache]) -> None:
        self.model, self.caches = model, caches
        self.compiled: dict[tuple[Kind, bool], Callable[..., mx.array]] = {}
        self.bans: dict[tuple[int, ...], mx.array] = {}
        self.stacked: tuple[tuple[tuple[int, ...], ...], mx.array] | None = None
        """The last banned ids and their mask, cached because most steps ban the same ids as the previous one."""

    def step(self, feeds: Sequence[Feed], previous: mx.array | None) -> mx.array:
        """Start a decode step and return its tokens, (S,), before they are computed.

        Args:
            previous: (S,) tokens of the previous step, possibly still being computed.
        """
        check_indices((f.token or 0 for f in feeds), vocabulary_size(self.model), "token")
        for cache in self.caches:
            check_indices((cache.index(f.position) for f in feeds), cache.capacity, "position")
        ints = mx.array(
            [
                [f.token or 0 for f in feeds],
                [f.token is None for f in feeds],
                [f.position for f in feeds],
            ]
        )
        floats = mx.array(
            [
                [uniform(f.seed, f.position + 1) if f.sampling.temperature else 0.0 for f in feeds],
                [f.sampling.temperature for f in feeds],
                [f.sampling.top_p for f in feeds],
                [f.sampling.min_p for f in feeds],
            ]
        )
        kind: Kind = "greedy"
        if any(f.sampling.temperature > 0.0 for f in feeds):
            limited = any(f.sampling.top_p < 1.0 or f.sampling.min_p > 0.0 for f in feeds)
            kind = "limited" if limited else "drawn"
        bans = self.ban_rows(feeds)
        run = self.variant(kind, bans is not None)
        sampled = ints[0].astype(mx.uint32) if previous is None else previous
        tokens = run(ints, floats, sampled, *([] if bans is None else [bans]))
        if previous is not None and sum(cache.nbytes for cache in self.caches) > IN_PLACE:
            mx.eval(previous)
        mx.async_eval(tokens, [cache.state for cache in self.caches])
        return tokens

    def variant(self, kind: Kind, banning: bool) -> Callable[..., mx.array]:
        """The step function for a kind of sampling, compiled if the caches are allocated."""
        key = (kind, banning)
        if key not in self.compiled:
            states = [cache.state for cache in self.caches]
            # The first step allocates the caches, which a compiled function cannot do.
            if not states[0]:
                return self.plain(kind)
            self.compiled[key] = mx.compile(self.plain(kind), inputs=states, outputs=states)
        return self.compiled[key]

    def plain(self, kind: Kind) -> Callable[..., mx.array]:
        # Local names avoid a reference cycle through `self`, which would keep the caches in memory until Python's
        # cycle collector runs.
        model, caches = self.model, self.caches

        def step(ints: mx.array, floats: mx.array, previous: mx.array, bans: mx.array | None = None) -> mx.array:
            tokens = mx.where(ints[1] == 1, previous, ints[0].astype(mx.uint32))
            for cache in caches:
                cache.offset = ints[2]
            logits = model(tokens[:, None], cache=caches)[:, -1]  # (S, V)
            if bans is not None:
                logits = mx.where(bans, -float("inf"), logits.astype(mx.float32))
            if kind == "greedy":
                return mx.argmax(logits, axis=-1).astype(mx.uint32)
            return draw(logits, floats[0], floats[1], (floats[2], floats[3]) if kind == "limited" else None)

        return step

    def ban_rows(self, feeds: Sequence[Feed]) -> mx.array | None:
        """(S, V) mask of banned ids; None if no slot bans any."""
        banned = tuple(feed.banned for feed in feeds)
        if not any(banned):
            return None
        if self.stacked is None or self.stacked[0] != banned:
            self.stacked = banned, mx.stack([self.ban_row(each) for each in banned])
        return self.stacked[1]

    def ban_row(self, banned: tuple[int, ...]) -> mx.array:
        if banned not in self.bans:
            # NumPy checks the bounds; MLX would write past the end of the array.
            row = np.zeros(vocabulary_size(self.model), np.bool_)
            row[list(banned)] = True
            self.bans[banned] = mx.array(row)
        return self.bans[banned]
