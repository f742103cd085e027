"""The compiled decode step: feed one token per slot and sample the next.

Shapes: S slots, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from mlx_suite.engine.program import Sampling, TokenScore
from mlx_suite.engine.sampling import draw, penalised, scored, uniform
from mlx_suite.engine.slots import SlotCache
from mlx_suite.modeling.blocked import BlockCopies, blocks_in_use
from mlx_suite.modeling.head import vocabulary_size
from mlx_suite.modeling.joined import in_use, join, multiplied
from mlx_suite.runtime.debug import check_indices
from mlx_suite.runtime.few_rows import measure

GREEDY = Sampling(temperature=0.0)

IN_PLACE = 1 << 25
"""KV cache size in bytes from which a step waits for the previous one before it is launched.

MLX writes in place only if no running computation still reads the array, and otherwise into a copy; for small caches
the copy costs less than the wait.
"""

Kind = Literal["greedy", "drawn", "limited"]
"""Kind of sampling in a step: greedy, drawn, or drawn with top-k, top-p or min-p, which needs a sort."""
ALTERNATIVES = (0, 1, 5, 20)
"""Numbers of alternatives that steps are compiled for."""


@dataclass(frozen=True, kw_only=True)
class History:
    """Tokens that a slot's penalties depend on."""

    key: tuple[int, int]
    """Identifies program and segment. While it stays the same, only the fed tokens are added."""
    sequence: Sequence[int]
    """The slot's tokens; those before the one that is fed count."""
    start: int
    """Position at which the segment begins."""


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
    history: History | None = None
    """None if the sampling has no penalties."""
    allowed: npt.NDArray[np.bool_] | None = None
    """(V,) tokens that a constraint allows."""
    alternatives: int | None = None
    """Number of alternatives to score; None for no scores."""

    @property
    def banned(self) -> tuple[int, ...]:
        return self.sampling.banned + (self.sampling.banned_first if self.first else ())


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What a compiled step computes besides the logits."""

    kind: Kind
    bans: bool = False
    bias: bool = False
    penalties: bool = False
    alternatives: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Result of a step, possibly still being computed."""

    tokens: mx.array
    """(S,)"""
    scores: tuple[mx.array, ...] = ()
    """Log-probabilities (S,) of the tokens, then ids and log-probabilities (S, K) of alternatives; empty without
    scores."""

    def of_slots(self, slots: list[int]) -> "Sampled":
        """The result for some of the slots."""
        at = mx.array(slots)
        return Sampled(tokens=self.tokens[at], scores=tuple(each[at] for each in self.scores))

    def with_slots(self, count: int) -> "Sampled":
        """The result with `count` more slots, whose tokens are discarded."""
        tokens = mx.concatenate([self.tokens, mx.zeros((count,), self.tokens.dtype)])
        scores = (mx.concatenate([each, mx.zeros((count, *each.shape[1:]), each.dtype)]) for each in self.scores)
        return Sampled(tokens=tokens, scores=tuple(scores))

    def scores_of_slots(self) -> list[TokenScore | None]:
        """The scores of each slot's token."""
        if not self.scores:
            return [None] * self.tokens.shape[0]
        chosen, *alternatives = (cast(list[Any], each.tolist()) for each in self.scores)
        pairs = zip(*alternatives, strict=True) if alternatives else ([(), ()] for _ in chosen)
        return [
            TokenScore(log_prob=log_prob, alternatives=tuple(zip(ids, log_probs, strict=True)))
            for log_prob, (ids, log_probs) in zip(chosen, pairs, strict=True)
        ]


class Stepper:
    """The decode step, compiled per number of slots, cache capacity and `Variant`."""

    def __init__(self, model: Any, caches: list[SlotCache], limit: int | None = None) -> None:
        """`limit`: bytes that MLX may have in use, copies of the weights included."""
        self.model, self.caches, self.joined = model, caches, join(model)
        matrices = multiplied(model, self.joined)
        measure(each.shape for each in matrices)
        self.copies = BlockCopies(matrices, limit)
        self.compiled: dict[Variant, Callable[..., list[mx.array]]] = {}
        self.bans: dict[tuple[int, ...], mx.array] = {}
        self.stacked: tuple[tuple[tuple[int, ...], ...], mx.array] | None = None
        """The last banned ids and their mask, cached because most steps ban the same ids as the previous one."""
        self.biases: tuple[tuple[tuple[tuple[int, float], ...], ...], mx.array] | None = None
        """The last biases and their matrix, cached likewise."""
        self.history = TokenHistory(vocabulary_size(model))

    def step(self, feeds: Sequence[Feed], previous: mx.array | None) -> Sampled:
        """Start a decode step.

        Args:
            previous: (S,) tokens of the previous step, possibly still being computed.
        """
        check_indices((f.token or 0 for f in feeds), vocabulary_size(self.model), "token")
        for cache in self.caches:
            check_indices((cache.index(f.position) for f in feeds), cache.capacity, "position")
        if self.copies.make_some():
            self.compiled.clear()
        variant, ints, floats, extras = self.inputs(feeds)
        sampled = ints[0].astype(mx.uint32) if previous is None else previous
        outputs = self.compile(variant)(ints, floats, sampled, extras)
        if previous is not None and sum(cache.nbytes for cache in self.caches) > IN_PLACE:
            mx.eval(previous)
        mx.async_eval(outputs, [cache.state for cache in self.caches])
        if variant.penalties:
            *outputs, self.history.seen, self.history.counts = outputs
        return Sampled(tokens=outputs[0], scores=tuple(outputs[1:]))

    def drop_copies(self) -> bool:
        """Go on without copies of the weights; returns whether there were any."""
        dropped = self.copies.drop()
        if dropped:
            self.compiled.clear()
        return dropped

    def sample_each(self, logits: mx.array, feeds: Sequence[Feed]) -> Sampled:
        """Sample the token after each of several tokens of one slot, as decode steps would, from logits (S, V).

        `feeds` must have no penalties, which depend on the tokens sampled before.
        """
        variant, ints, floats, extras = self.inputs(feeds)
        assert not variant.penalties, "penalties depend on the tokens before"
        outputs = _sample(variant, logits, ints[0].astype(mx.uint32), ints, floats, extras)
        return Sampled(tokens=outputs[0], scores=tuple(outputs[1:]))

    def inputs(self, feeds: Sequence[Feed]) -> tuple[Variant, mx.array, mx.array, list[mx.array]]:
        """The variant of a step and its inputs: integers (4, S), floats (4, S), and what the variant needs."""
        ints = mx.array(
            [
                [f.token or 0 for f in feeds],
                [f.token is None for f in feeds],
                [f.position for f in feeds],
                [f.sampling.top_k for f in feeds],
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
        bans, bias = self.ban_rows(feeds), self.bias_rows(feeds)
        penalties = self.history.arrays(feeds) if any(f.history is not None for f in feeds) else None
        variant = Variant(
            kind=_kind(feeds),
            bans=bans is not None,
            bias=bias is not None,
            penalties=penalties is not None,
            alternatives=_alternatives(feeds),
        )
        return variant, ints, floats, [each for each in (bans, bias) if each is not None] + (penalties or [])

    def compile(self, variant: Variant) -> Callable[..., list[mx.array]]:
        """The step function for a variant, compiled if the caches are allocated."""
        if variant not in self.compiled:
            states = [cache.state for cache in self.caches]
            # The first step allocates the caches, which a compiled function cannot do.
            if not states[0]:
                return self.plain(variant)
            self.compiled[variant] = mx.compile(self.plain(variant), inputs=states, outputs=states)
        return self.compiled[variant]

    def plain(self, variant: Variant) -> Callable[..., list[mx.array]]:
        # Local names avoid a reference cycle through `self`, which would keep the caches in memory until Python's
        # cycle collector runs.
        model, caches, joined, blocked = self.model, self.caches, self.joined, self.copies.ready

        def step(ints: mx.array, floats: mx.array, previous: mx.array, extras: list[mx.array]) -> list[mx.array]:
            tokens = mx.where(ints[1] == 1, previous, ints[0].astype(mx.uint32))
            for cache in caches:
                cache.offset = ints[2]
            with in_use(joined), blocks_in_use(blocked):
                logits: mx.array = model(tokens[:, None], cache=caches)[:, -1]  # (S, V)
            return _sample(variant, logits, tokens, ints, floats, extras)

        return step

    def ban_rows(self, feeds: Sequence[Feed]) -> mx.array | None:
        """(S, V) mask of tokens that may not be sampled; None if there are none."""
        banned = tuple(feed.banned for feed in feeds)
        constrained = any(feed.allowed is not None for feed in feeds)
        if not any(banned) and not constrained:
            return None
        if self.stacked is None or self.stacked[0] != banned:
            self.stacked = banned, mx.stack([self.ban_row(each) for each in banned])
        rows = self.stacked[1]
        if constrained:
            every = np.ones(vocabulary_size(self.model), np.bool_)
            rows = rows | ~mx.array(np.stack([every if feed.allowed is None else feed.allowed for feed in feeds]))
        return rows

    def ban_row(self, banned: tuple[int, ...]) -> mx.array:
        if banned not in self.bans:
            # NumPy checks the bounds; MLX would write past the end of the array.
            row = np.zeros(vocabulary_size(self.model), np.bool_)
            row[list(banned)] = True
            self.bans[banned] = mx.array(row)
        return self.bans[banned]

    def bias_rows(self, feeds: Sequence[Feed]) -> mx.array | None:
        """(S, V) values added to logits; None if there are none."""
        biases = tuple(feed.sampling.logit_bias for feed in feeds)
        if not any(biases):
            return None
        if self.biases is None or self.biases[0] != biases:
            rows = np.zeros((len(biases), vocabulary_size(self.model)), np.float32)
            for row, pairs in zip(rows, biases, strict=True):
                for token, value in pairs:
                    row[token] += value
            self.biases = biases, mx.array(rows)
        return self.biases[1]


class TokenHistory:
    """Which tokens each slot's sequence holds, and how often its segment has sampled them; on the device.

    The newest token of a slot is still being computed when the next step is launched, so the step itself adds it.
    """

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.keys: list[tuple[int, int] | None] = []
        self.seen: mx.array = mx.zeros((0, vocabulary), mx.bool_)
        self.counts: mx.array = mx.zeros((0, vocabulary), mx.int32)

    def arrays(self, feeds: Sequence[Feed]) -> list[mx.array]:
        """`seen` and `counts` (S, V), (S,) whether each fed token was sampled in the segment, penalties (3, S)."""
        keys = [None if feed.history is None else feed.history.key for feed in feeds]
        if keys != self.keys:
            seen, counts = np.zeros((2, len(feeds), self.vocabulary), np.int32)
            for row, feed in enumerate(feeds):
                if feed.history is not None:
                    tokens = feed.history.sequence[: feed.position]
                    seen[row] = np.bincount(tokens, minlength=self.vocabulary)
                    counts[row] = np.bincount(tokens[feed.history.start :], minlength=self.vocabulary)
            self.keys, self.seen, self.counts = keys, mx.array(seen > 0), mx.array(counts)
        is_sampled = [f.history is not None and f.position >= f.history.start for f in feeds]
        penalties = [
            [f.sampling.repetition_penalty for f in feeds],
            [f.sampling.presence_penalty for f in feeds],
            [f.sampling.frequency_penalty for f in feeds],
        ]
        return [self.seen, self.counts, mx.array(is_sampled).astype(mx.int32), mx.array(penalties)]


def _sample(
    variant: Variant, own: mx.array, tokens: mx.array, ints: mx.array, floats: mx.array, extras: list[mx.array]
) -> list[mx.array]:
    """The tokens (S,) after `tokens` (S,), sampled from the model's own logits (S, V); then scores and histories."""
    logits, updated, given = own, [], iter(extras)
    bans = next(given) if variant.bans else None
    bias = next(given) if variant.bias else None
    if variant.penalties:
        seen, counts, is_sampled, penalties = given
        at = tokens[:, None].astype(mx.int32)
        seen = mx.put_along_axis(seen, at, mx.array(True), axis=1)
        counts = counts.at[mx.arange(tokens.shape[0]), tokens].add(is_sampled)
        logits, updated = penalised(logits.astype(mx.float32), seen, counts, penalties), [seen, counts]
    if bias is not None:
        logits = logits.astype(mx.float32) + bias
    if bans is not None:
        logits = mx.where(bans, -float("inf"), logits.astype(mx.float32))
    if variant.kind == "greedy":
        chosen = mx.argmax(logits, axis=-1).astype(mx.uint32)
    else:
        limits = (floats[2], floats[3], ints[3]) if variant.kind == "limited" else None
        chosen = draw(logits, floats[0], floats[1], limits)
    if variant.alternatives is None:
        return [chosen, *updated]
    return [chosen, *scored(own.astype(mx.float32), chosen, variant.alternatives), *updated]


def _kind(feeds: Sequence[Feed]) -> Kind:
    drawn = [feed.sampling for feed in feeds if feed.sampling.temperature > 0.0]
    if not drawn:
        return "greedy"
    return "limited" if any(s.top_p < 1.0 or s.min_p > 0.0 or s.top_k > 0 for s in drawn) else "drawn"


def _alternatives(feeds: Sequence[Feed]) -> int | None:
    """The smallest of `ALTERNATIVES` that serves all slots; None if none wants scores."""
    wanted = [feed.alternatives for feed in feeds if feed.alternatives is not None]
    return min(number for number in ALTERNATIVES if number >= max(wanted)) if wanted else None
