"""One compiled decoding step for all slots: feed a token each, draw the next.

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
from mlx_suite.runtime.debug import check_indices

GREEDY = Sampling(temperature=0.0)

IN_PLACE = 1 << 25
"""Bytes of keys and values from which a step waits for the one before, though it is made ready meanwhile.

MLX writes into an array in place only when nothing under way reads it any more, else into a copy: of little ones
the copy costs less than the wait.
"""

Kind = Literal["greedy", "drawn", "limited"]
"""What a step's rows need: the most probable token, a draw, or a draw under top-p or min-p, which sorts."""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """What one slot does in a step."""

    token: int | None
    """The token to feed; None feeds what the slot drew in the step before."""
    position: int
    seed: int
    sampling: Sampling
    first: bool
    """Whether the token drawn is the first of its segment."""

    @property
    def banned(self) -> tuple[int, ...]:
        return self.sampling.banned + (self.sampling.banned_first if self.first else ())


class Stepper:
    """Compiles the step once per number of slots and capacity, and per kind of sampling in use."""

    def __init__(self, model: Any, caches: list[SlotCache]) -> None:
        self.model, self.caches = model, caches
        self.compiled: dict[tuple[Kind, bool], Callable[..., mx.array]] = {}
        self.bans: dict[tuple[int, ...], mx.array] = {}
        self.stacked: tuple[tuple[tuple[int, ...], ...], mx.array] | None = None
        """What the slots banned last, and the rows of that: the next step mostly bans the same."""

    def step(self, feeds: Sequence[Feed], drawn: mx.array | None) -> mx.array:
        """Feed every slot and start drawing its next token, (S,); `drawn` is what the step before drew."""
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
        previous = ints[0].astype(mx.uint32) if drawn is None else drawn
        tokens = run(ints, floats, previous, *([] if bans is None else [bans]))
        if drawn is not None and sum(cache.nbytes for cache in self.caches) > IN_PLACE:
            mx.eval(drawn)
        mx.async_eval(tokens, [cache.state for cache in self.caches])
        return tokens

    def variant(self, kind: Kind, banning: bool) -> Callable[..., mx.array]:
        key = (kind, banning)
        if key not in self.compiled:
            states = [cache.state for cache in self.caches]
            # The first step allocates the caches, which a compiled function cannot.
            if not states[0]:
                return self.plain(kind)
            self.compiled[key] = mx.compile(self.plain(kind), inputs=states, outputs=states)
        return self.compiled[key]

    def plain(self, kind: Kind) -> Callable[..., mx.array]:
        # Held by name: a compiled function that held the stepper, which holds it, would keep the caches' memory
        # after the engine is gone, until Python looks for cycles.
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
        """(S, V) true where a slot must not draw a token; None where nobody bans anything."""
        banned = tuple(feed.banned for feed in feeds)
        if not any(banned):
            return None
        if self.stacked is None or self.stacked[0] != banned:
            self.stacked = banned, mx.stack([self.ban_row(each) for each in banned])
        return self.stacked[1]

    def ban_row(self, banned: tuple[int, ...]) -> mx.array:
        if banned not in self.bans:
            # numpy checks the bounds; MLX would write past the end.
            row = np.zeros(vocabulary_size(self.model), np.bool_)
            row[list(banned)] = True
            self.bans[banned] = mx.array(row)
        return self.bans[banned]


def vocabulary_size(model: Any) -> int:
    """V of our models and of mlx-lm's."""
    config = getattr(model, "config", None) or model.args
    return int(config.vocab_size)
