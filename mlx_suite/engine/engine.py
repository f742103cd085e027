"""Generation: a fixed set of slots that decode in lock step, each walking its own program.

When a program's sampled text ends, what it gives next is fed into the same slot, on the same keys and values:
nothing is prefilled twice. The starts that programs share (Magpie's headers) are computed once and restored into
every slot that takes a new program. A step is launched before the tokens of the one before are read, so the device does
not wait for Python.

Shapes: S slots, V vocabulary.
"""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, cast

import mlx.core as mx

from mlx_suite.engine.counts import EngineStats
from mlx_suite.engine.program import Choose, Done, Queries, Query, Reply, Request, Sample
from mlx_suite.engine.scoring import label_log_probs, replies
from mlx_suite.engine.sequence import SequenceState
from mlx_suite.engine.slots import SlotCache, SlotRow, slot_caches
from mlx_suite.engine.step import GREEDY, Feed, Stepper, vocabulary_size
from mlx_suite.runtime.debug import check_indices

RIDE = 16
"""Given text of up to this many tokens rides along, one token per step; longer text is prefilled in chunks."""
PREFIX_TOKENS = 2048
"""Given starts are kept up to this many tokens, the last one however long it is."""
CHUNK = 512
"""Tokens of a prefill chunk: enough to keep a GPU busy, few enough to bound the attention scores."""
TIMED = 17
"""One aside in so many is timed, since the device must be idle for that. The first is not: it compiles. A prime, so
that rows which ask the same number of times have each of their asides timed."""


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """A program's given start, which others are likely to share, and its keys and values per layer."""

    tokens: list[int]
    layers: list[list[mx.array]]


@dataclass(kw_only=True)
class InFlightStep:
    """A step on its way: the tokens it draws, (S,), and per slot which walker's which segment they are for."""

    tokens: mx.array
    walkers: list[SequenceState | None]
    segments: list[int]
    """0 where the token drawn is for nobody."""


class Engine:
    """Runs programs on `model` in `slots` slots, each within `context` tokens. One run at a time.

    Args:
        limit: Bytes in use by MLX past which keys and values do not grow: the engine goes on with fewer slots, down to
            one. Programs in slots that are given up begin again later, if their requests can renew them; else they
            keep their slots. None never looks.
    """

    def __init__(self, model: Any, *, slots: int = 16, context: int = 8192, limit: int | None = None) -> None:
        self.model, self.slots, self.context, self.limit = model, slots, context, limit
        self.counts = EngineStats()
        self.prefixes: list[Prefix] = []
        """The latest used first."""
        self._put_back: list[Request] = []
        """Begun and given up."""
        self._asides = 0
        """That were asked so far."""
        self._open_slots()

    def _open_slots(self) -> None:
        self.caches: list[SlotCache] = slot_caches(self.model, self.slots)
        self.stepper = Stepper(self.model, self.caches)
        self.window = min((cache.window for cache in self.caches if cache.window is not None), default=None)
        self.walkers: list[SequenceState | None] = [None] * self.slots
        self.held: list[list[int]] = [[] for _ in self.walkers]
        """Per free slot, the tokens whose keys and values it still holds."""
        self._afforded = 0
        """Positions per slot for which memory was found to be enough, or as many slots given up as could be."""

    def run(self, requests: Iterable[Request | None]) -> Iterator[Done]:
        """Yield each program as it ends; requests are drawn from the iterable when a slot is free.

        None says that there is no request just now: the iterable is asked again after the next step. It must not say
        so while no program is running, which ends the run.

        What a program raises comes out here and ends the run. A run may also be closed before its end.
        """
        assert not any(self.walkers), "one run at a time"
        self._put_back.clear()
        if len(self.walkers) < self.slots:
            self._open_slots()  # the last run ended on fewer
        try:
            yield from self._turns(iter(requests))
        except GeneratorExit:
            for slot, walker in enumerate(self.walkers):
                if walker is not None:
                    self._leave(slot, walker)
            raise
        except BaseException:
            self._open_slots()  # what failed may have left keys and values half written
            raise

    def _turns(self, waiting: Iterator[Request | None] | None) -> Iterator[Done]:
        flight: InFlightStep | None = None
        while True:
            waiting = yield from self._fill(waiting)
            if waiting is None:
                flight = self._shrink(flight)
            flight = self._within_limit(flight)
            launched = self._launch(flight) if any(self.walkers) else None
            if flight is not None:
                self._read(flight)
                yield from self._settle(range(len(self.walkers)))
            elif launched is None:
                return
            flight = launched

    # ---- programs come and go

    def _fill(self, waiting: Iterator[Request | None] | None) -> Generator[Done, None, Iterator[Request | None] | None]:
        """Give every free slot a program. Returns what is left of the requests, None at their end."""
        for slot in range(len(self.walkers)):
            while self.walkers[slot] is None and (self._put_back or waiting is not None):
                try:
                    request = self._put_back.pop(0) if self._put_back else next(cast(Iterator[Request | None], waiting))
                except StopIteration:
                    return None
                if request is None:
                    return waiting
                walker = SequenceState(request, self.context, self.window)
                self.walkers[slot] = walker
                if not walker.ended:
                    self._enter(slot, walker)
                yield from self._settle([slot])
        return waiting

    def _enter(self, slot: int, walker: SequenceState) -> None:
        """Rewind the slot to what it holds of the program's given start and compute the rest of it."""
        start = walker.pending[:-1]
        kept = self._shared(start, self.held[slot])
        saved, prefix = self._nearest(start)
        if prefix is not None and saved > kept:
            self._reserve(saved)
            for cache, layer in zip(self.caches, prefix.layers, strict=True):
                cache.restore(slot, saved, [each[:, :, :saved] for each in layer])
            kept = saved
            self._keep(prefix)
        walker.fed = kept
        if kept < len(start):
            self._prefill(slot, walker)
            # Copies: a slice would keep the whole of the caches' memory.
            layers = [[mx.contiguous(each) for each in cache.held(slot, len(start))] for cache in self.caches]
            mx.eval(layers)
            self._keep(Prefix(tokens=start, layers=layers))

    def _nearest(self, start: list[int]) -> tuple[int, Prefix | None]:
        """The kept start that shares most with `start`, and how many tokens it shares."""
        found = [(self._shared(start, each.tokens), each) for each in self.prefixes]
        return max(found, key=lambda pair: pair[0], default=(0, None))

    def _keep(self, prefix: Prefix) -> None:
        """Put a start in front of those that are kept, and let go of the last ones."""
        others = [each for each in self.prefixes if each is not prefix]
        sums = accumulate(len(each.tokens) for each in (prefix, *others))
        room = sum(total <= PREFIX_TOKENS for total in sums)
        self.prefixes = [prefix, *others][: max(1, room)]

    def _shared(self, start: list[int], held: list[int]) -> int:
        """How many tokens of `start` keys and values of `held` can serve; a ring that has turned cannot go back."""
        shared = 0
        while shared < min(len(held), len(start)) and held[shared] == start[shared]:
            shared += 1
        turned = any(cache.window is not None and len(held) >= cache.window for cache in self.caches)
        return 0 if turned and shared < len(held) else shared

    def _prefill(self, slot: int, walker: SequenceState) -> None:
        """Feed all that is pending but the last token, whose output decides what comes next."""
        while len(walker.pending) > 1:
            chunk = walker.pending[:-1][:CHUNK]
            check_indices(chunk, vocabulary_size(self.model), "token")
            self._reserve(walker.fed + len(chunk))
            self.model(mx.array([chunk]), cache=[SlotRow(cache, slot, walker.fed) for cache in self.caches])
            mx.eval([cache.state for cache in self.caches])
            walker.fed += len(chunk)
            self.counts.prefilled += len(chunk)

    def _settle(self, slots: Iterable[int]) -> Iterator[Done]:
        """Do what needs no step: choose labels, prefill long text, see ended programs out."""
        for slot in slots:
            walker = self.walkers[slot]
            if walker is None:
                continue
            while isinstance(walker.active, Choose | Queries):
                self._prefill(slot, walker)
                if isinstance(walker.active, Choose):
                    held = self.model, self.caches, slot, walker.fed, walker.pending[0]
                    walker.chose(label_log_probs(*held, walker.active.labels))
                else:
                    walker.advance(self._asked(slot, walker, walker.active.queries))
            if walker.ended:
                self._leave(slot, walker)
                yield walker.done()
            elif len(walker.pending) > RIDE:
                self._prefill(slot, walker)

    def _asked(self, slot: int, walker: SequenceState, queries: Sequence[Query]) -> tuple[Reply, ...]:
        """What the model says aside."""
        tokens = sum(len(query.tokens) for query in queries)
        is_timed = self._asides % TIMED == 1
        self._asides += 1
        self.counts.aside += tokens
        if is_timed:
            mx.synchronize()  # the step under way would be taken for a part of it
        began = time.perf_counter()
        found = replies(self.model, self.caches, slot, walker.fed, walker.pending[0], queries)
        if is_timed:
            self.counts.timed += tokens
            self.counts.timed_seconds += time.perf_counter() - began
        return found

    def _leave(self, slot: int, walker: SequenceState) -> None:
        """Free a slot; it keeps what it holds, and room behind it for what a free slot writes."""
        self.walkers[slot] = None
        self.held[slot] = walker.sequence[: min(walker.fed, self.context - 1)]

    def _shrink(self, flight: InFlightStep | None) -> InFlightStep | None:
        """At the end of the work, go on with half the slots once half of them are free."""
        keep = [slot for slot, walker in enumerate(self.walkers) if walker is not None]
        if not keep or len(keep) > len(self.walkers) // 2:
            return flight
        return self._keep_slots(keep, flight)

    def _keep_slots(self, keep: list[int], flight: InFlightStep | None) -> InFlightStep | None:
        """Go on with these slots alone."""
        if flight is not None:
            self.counts.idle += len(self.walkers) - len(keep)
        for cache in self.caches:
            cache.keep_slots(keep)
            self._bound(cache)
        self.walkers = [self.walkers[i] for i in keep]
        self.held = [self.held[i] for i in keep]
        return flight and InFlightStep(
            tokens=flight.tokens[mx.array(keep)],
            walkers=[flight.walkers[i] for i in keep],
            segments=[flight.segments[i] for i in keep],
        )

    # ---- memory

    def _within_limit(self, flight: InFlightStep | None) -> InFlightStep | None:
        """Before the caches grow past the limit, give up the slots whose programs have come least far."""
        if self.limit is None or not any(self.walkers):
            return flight
        tokens = 1 + max(walker.fed for walker in self.walkers if walker is not None)
        room = max(cache.room(tokens) for cache in self.caches)
        if room <= self._afforded or not self.caches[0].state:
            return flight
        self._afforded = room
        if flight is not None:
            mx.eval(flight.tokens)
        slots = self._affordable(tokens)
        ranked = sorted(range(len(self.walkers)), key=self._worth, reverse=True)
        fixed = sum(walker is not None and walker.request.renew is None for walker in self.walkers)
        keep = sorted(ranked[: max(slots, fixed, 1)])
        if len(keep) == len(self.walkers):
            return flight
        for slot in sorted(set(ranked) - set(keep)):
            walker = self.walkers[slot]
            if walker is not None and walker.request.renew is not None:
                self._put_back.append(replace(walker.request, program=walker.request.renew()))
                self.counts.put_back += 1
        self.slots = len(keep)
        return self._keep_slots(keep, flight)

    def _affordable(self, tokens: int) -> int:
        """Slots that may be kept when there must be room for `tokens`, and one layer more while it is moved."""
        assert self.limit is not None
        sizes = [cache.slot_bytes(tokens) for cache in self.caches]
        others = mx.get_active_memory() - sum(cache.nbytes for cache in self.caches)
        return max(0, self.limit - others) // max(sum(sizes) + max(sizes), 1)

    def _worth(self, slot: int) -> tuple[bool, int]:
        """How much is lost with a slot: what cannot be begun again, then the tokens of its program."""
        walker = self.walkers[slot]
        return (False, -1) if walker is None else (walker.request.renew is None, walker.fed)

    def _bound(self, cache: SlotCache) -> None:
        """Where memory is limited, move one layer after the other: all at once would take twice the memory."""
        if self.limit is not None:
            mx.eval(cache.state)

    # ---- steps

    def _launch(self, flight: InFlightStep | None) -> InFlightStep:
        """Start a step: each walker feeds its next known token or, still unread, the one it has just drawn."""
        feeds, segments = [], []
        for walker, held in zip(self.walkers, self.held, strict=True):
            if walker is None:
                # A free slot writes behind what it holds.
                feeds.append(Feed(token=0, position=len(held), seed=0, sampling=GREEDY, first=False))
                segments.append(0)
                continue
            assert isinstance(walker.active, Sample)
            position, known = walker.fed, len(walker.sequence)
            token = walker.sequence[position] if position < known else None
            walker.fed += 1
            self.counts.ridden += token is not None
            draws = walker.fed >= known
            feeds.append(
                Feed(
                    token=token,
                    position=position,
                    seed=walker.request.seed + (walker.active.salt << 48),
                    sampling=walker.active.sampling if draws else GREEDY,
                    first=walker.fed == walker.start,
                )
            )
            segments.append(walker.segment if draws else 0)
        self._reserve(1 + max(feed.position for feed in feeds))
        tokens = self.stepper.step(feeds, None if flight is None else flight.tokens)
        self.counts.steps += 1
        self.counts.slot_steps += len(feeds)
        return InFlightStep(tokens=tokens, walkers=list(self.walkers), segments=segments)

    def _read(self, flight: InFlightStep) -> None:
        """Take the tokens of a step that has been launched a turn ago."""
        drawn = cast(list[int], flight.tokens.tolist())
        for walker, segment, token in zip(flight.walkers, flight.segments, drawn, strict=True):
            if walker is None or walker.ended:
                self.counts.idle += 1
            elif segment == walker.segment:
                self.counts.sampled += 1
                walker.wrote(token)

    def _reserve(self, tokens: int) -> None:
        """Room for `tokens` positions in every slot."""
        for cache in self.caches:
            if cache.reserve(tokens):
                self._bound(cache)
