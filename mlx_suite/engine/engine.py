"""Continuous batching: a fixed set of slots that decode in lock step, each running its own program.

When a program's sampled text ends, its next forced tokens are fed into the same slot, on the same KV cache, so nothing
is prefilled twice. Shared prefixes are computed once (`prefix_cache`). A decode step is launched before the tokens of
the previous one are read, so the device does not wait for Python.

Shapes: S slots, V vocabulary.
"""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import mlx.core as mx

from mlx_suite.engine.memory import MemoryBudget
from mlx_suite.engine.prefix_cache import PrefixCache, reusable
from mlx_suite.engine.program import Done, Queries, Query, Reply, Request, Sample
from mlx_suite.engine.scoring import replies
from mlx_suite.engine.sequence import SequenceState
from mlx_suite.engine.slots import SlotCache, SlotRow, slot_caches
from mlx_suite.engine.stats import EngineStats
from mlx_suite.engine.step import GREEDY, Feed, Stepper
from mlx_suite.modeling.head import vocabulary_size
from mlx_suite.runtime.debug import check_indices

UNSTATED_CONTEXT = 8192
"""Context length assumed if the configuration does not state one."""
RIDE = 16
"""Forced text of up to this many tokens is fed one token per decode step; longer text is prefilled in chunks."""
CHUNK = 512
"""Tokens per prefill chunk: enough to keep a GPU busy, few enough to bound the attention scores."""
TIMED = 17
"""One in 17 batches of queries is timed, because timing must wait for an idle device; the first batch, which compiles,
is not. 17 is prime, so that all of a row's queries are timed in turn."""


@dataclass(kw_only=True)
class InFlightStep:
    """A decode step whose tokens have not been read."""

    tokens: mx.array
    """(S,)"""
    states: list[SequenceState | None]
    """The program of each slot."""
    segments: list[int]
    """Segment number of each slot; 0 if the token is discarded."""


class Engine:
    """Runs programs on `model` in `slots` slots, each within `context` tokens. One run at a time.

    Args:
        limit: Memory budget in bytes for everything MLX has in use. When the KV caches would outgrow it, the engine
            continues with fewer slots, down to one. Only programs whose requests can be renewed lose their slots; they
            restart later. None: no limit.
    """

    def __init__(self, model: Any, *, slots: int = 16, context: int = 8192, limit: int | None = None) -> None:
        self.model, self.slots, self.context, self.limit = model, slots, context, limit
        self.stats = EngineStats()
        self.prefixes = PrefixCache()
        self._restarts: list[Request] = []
        """Requests that lost their slots."""
        self._queried = 0
        """Number of query batches so far."""
        self._open_slots()

    def _open_slots(self) -> None:
        self.caches: list[SlotCache] = slot_caches(self.model, self.slots)
        self.stepper = Stepper(self.model, self.caches)
        self.window = min((cache.window for cache in self.caches if cache.window is not None), default=None)
        self.states: list[SequenceState | None] = [None] * self.slots
        self.cached: list[list[int]] = [[] for _ in self.states]
        """Tokens still in the KV cache of each free slot."""
        self._budget = MemoryBudget(self.limit)

    def run(self, requests: Iterable[Request | None]) -> Iterator[Done]:
        """Yield each program as it ends; requests are drawn from the iterable when a slot is free.

        None from the iterable means that there is no request yet; the next one is drawn after the next decode step. A
        None while no program is running ends the run.

        An exception in a program ends the run. A run may be closed before its end.
        """
        assert not any(self.states), "one run at a time"
        self._restarts.clear()
        if len(self.states) < self.slots:
            self._open_slots()  # the last run ended with fewer
        try:
            yield from self._turns(iter(requests))
        except GeneratorExit:
            for slot, state in enumerate(self.states):
                if state is not None:
                    self._leave(slot, state)
            raise
        except BaseException:
            self._open_slots()  # the KV caches may be half written
            raise

    def _turns(self, waiting: Iterator[Request | None] | None) -> Iterator[Done]:
        flight: InFlightStep | None = None
        while True:
            waiting = yield from self._fill(waiting)
            if waiting is None:
                flight = self._shrink(flight)
            flight = self._within_budget(flight)
            launched = self._launch(flight) if any(self.states) else None
            if flight is not None:
                self._read(flight)
                yield from self._settle(range(len(self.states)))
            elif launched is None:
                return
            flight = launched

    # ---- slots

    def _fill(self, waiting: Iterator[Request | None] | None) -> Generator[Done, None, Iterator[Request | None] | None]:
        """Start a program in every free slot. Returns the remaining requests; None if there are none."""
        for slot in range(len(self.states)):
            while self.states[slot] is None and (self._restarts or waiting is not None):
                try:
                    request = self._restarts.pop(0) if self._restarts else next(cast(Iterator[Request | None], waiting))
                except StopIteration:
                    return None
                if request is None:
                    return waiting
                state = SequenceState(request, self.context, self.window)
                self.states[slot] = state
                if not state.ended:
                    self._enter(slot, state)
                yield from self._settle([slot])
        return waiting

    def _enter(self, slot: int, state: SequenceState) -> None:
        """Reuse the longest cached prefix of the program's forced start, from the slot or the prefix cache."""
        start = state.pending[:-1]
        kept = reusable(start, self.cached[slot], self.caches)
        saved, entry = self.prefixes.longest_match(start, self.caches)
        if entry is not None and saved > kept:
            self._reserve(saved)
            for cache, layer in zip(self.caches, entry.layers, strict=True):
                cache.restore(slot, saved, [each[:, :, :saved] for each in layer])
            kept = saved
            self.prefixes.use(entry)
        state.fed = kept
        if kept < len(start):
            self._prefill(slot, state)
            self.prefixes.add(start, slot, self.caches)

    def _prefill(self, slot: int, state: SequenceState) -> None:
        """Feed all pending tokens but the last, whose output the next segment needs."""
        while len(state.pending) > 1:
            chunk = state.pending[:-1][:CHUNK]
            check_indices(chunk, vocabulary_size(self.model), "token")
            self._reserve(state.fed + len(chunk))
            self.model(mx.array([chunk]), cache=[SlotRow(cache, slot, state.fed) for cache in self.caches])
            mx.eval([cache.state for cache in self.caches])
            state.fed += len(chunk)
            self.stats.prefilled += len(chunk)

    def _settle(self, slots: Iterable[int]) -> Iterator[Done]:
        """Run queries, prefill long text and yield ended programs, which needs no decode step."""
        for slot in slots:
            state = self.states[slot]
            if state is None:
                continue
            while isinstance(state.active, Queries):
                self._prefill(slot, state)
                state.advance(self._query(slot, state, state.active.queries))
            if state.ended:
                self._leave(slot, state)
                yield state.done()
            elif len(state.pending) > RIDE:
                self._prefill(slot, state)

    def _query(self, slot: int, state: SequenceState, queries: Sequence[Query]) -> tuple[Reply, ...]:
        tokens = sum(len(query.tokens) for query in queries)
        is_timed = self._queried % TIMED == 1
        self._queried += 1
        self.stats.queried += tokens
        if is_timed:
            mx.synchronize()  # so that the step in flight is not counted
        began = time.perf_counter()
        found = replies(self.model, self.caches, slot, state.fed, state.pending[0], queries)
        if is_timed:
            self.stats.timed += tokens
            self.stats.timed_seconds += time.perf_counter() - began
        return found

    def _leave(self, slot: int, state: SequenceState) -> None:
        """Free a slot. It keeps its KV cache, and room after it for the tokens that a free slot writes."""
        self.states[slot] = None
        self.cached[slot] = state.sequence[: min(state.fed, self.context - 1)]

    def _shrink(self, flight: InFlightStep | None) -> InFlightStep | None:
        """Drop the free slots if they are at least half. Called after the last request has been drawn."""
        keep = [slot for slot, state in enumerate(self.states) if state is not None]
        if not keep or len(keep) > len(self.states) // 2:
            return flight
        return self._keep_slots(keep, flight)

    def _within_budget(self, flight: InFlightStep | None) -> InFlightStep | None:
        """Drop slots before the KV caches outgrow the memory budget."""
        keep = self._budget.slots_to_keep(self.states, self.caches, None if flight is None else flight.tokens)
        if keep is None:
            return flight
        for slot in sorted(set(range(len(self.states))) - set(keep)):
            state = self.states[slot]
            if state is not None and state.request.renew is not None:
                self._restarts.append(replace(state.request, program=state.request.renew()))
                self.stats.restarted += 1
        self.slots = len(keep)
        return self._keep_slots(keep, flight)

    def _keep_slots(self, keep: list[int], flight: InFlightStep | None) -> InFlightStep | None:
        """Drop all other slots."""
        if flight is not None:
            self.stats.idle += len(self.states) - len(keep)
        for cache in self.caches:
            cache.keep_slots(keep)
            self._budget.settle(cache)
        self.states = [self.states[i] for i in keep]
        self.cached = [self.cached[i] for i in keep]
        return flight and InFlightStep(
            tokens=flight.tokens[mx.array(keep)],
            states=[flight.states[i] for i in keep],
            segments=[flight.segments[i] for i in keep],
        )

    # ---- decode steps

    def _launch(self, flight: InFlightStep | None) -> InFlightStep:
        """Start a decode step: each program feeds its next known token, or the one in flight."""
        feeds, segments = [], []
        for state, cached in zip(self.states, self.cached, strict=True):
            if state is None:
                # A free slot writes after its content.
                feeds.append(Feed(token=0, position=len(cached), seed=0, sampling=GREEDY, first=False))
                segments.append(0)
                continue
            assert isinstance(state.active, Sample)
            position, known = state.fed, len(state.sequence)
            token = state.sequence[position] if position < known else None
            state.fed += 1
            self.stats.forced += token is not None
            samples = state.fed >= known
            feeds.append(
                Feed(
                    token=token,
                    position=position,
                    seed=state.request.seed + (state.active.salt << 48),
                    sampling=state.active.sampling if samples else GREEDY,
                    first=state.fed == state.start,
                )
            )
            segments.append(state.segment if samples else 0)
        self._reserve(1 + max(feed.position for feed in feeds))
        tokens = self.stepper.step(feeds, None if flight is None else flight.tokens)
        self.stats.steps += 1
        self.stats.slot_steps += len(feeds)
        return InFlightStep(tokens=tokens, states=list(self.states), segments=segments)

    def _read(self, flight: InFlightStep) -> None:
        """Read the tokens of the previous step and send them to their programs."""
        sampled = cast(list[int], flight.tokens.tolist())
        for state, segment, token in zip(flight.states, flight.segments, sampled, strict=True):
            if state is None or state.ended:
                self.stats.idle += 1
            elif segment == state.segment:
                self.stats.sampled += 1
                state.wrote(token)

    def _reserve(self, tokens: int) -> None:
        """Make room for `tokens` positions in every slot."""
        for cache in self.caches:
            if cache.reserve(tokens):
                self._budget.settle(cache)


def context_length(model: Any) -> int:
    """Maximum tokens of a sequence, prompt and response together; `model` is ours or mlx-lm's."""
    config = getattr(model, "config", None) or getattr(model, "args", None)
    stated = getattr(config, "max_position_embeddings", None)
    return stated if isinstance(stated, int) and stated > 0 else UNSTATED_CONTEXT
