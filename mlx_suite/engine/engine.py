"""Continuous batching: slots that decode in lock step, each running its own program.

When a program's sampled text ends, its next forced tokens are fed into the same slot, on the same KV cache, so nothing
is prefilled twice. Shared prefixes are computed once (`prefix_cache`). A decode step is launched before the tokens of
the previous one are read, so the device does not wait for Python. The number of slots follows the load (`slot_count`).

Shapes: S slots, V vocabulary.
"""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import mlx.core as mx

from mlx_suite.engine.memory import MemoryBudget
from mlx_suite.engine.prefill import chunk_size, prefill
from mlx_suite.engine.prefix_cache import PrefixCache
from mlx_suite.engine.program import Done, Query, Reply, Request, Sample
from mlx_suite.engine.scoring import replies
from mlx_suite.engine.sequence import SequenceState
from mlx_suite.engine.slot_count import drop_unaffordable_slots, drop_unneeded_slots, open_more_slots
from mlx_suite.engine.slots import SlotCache, slot_caches
from mlx_suite.engine.speculation import Speculation, check, guesses_for
from mlx_suite.engine.stats import EngineStats
from mlx_suite.engine.step import GREEDY, Feed, History, Sampled, Stepper

UNSTATED_CONTEXT = 8192
"""Context length assumed if the configuration does not state one."""
TIMED = 17
"""One in 17 batches of queries is timed, because timing must wait for an idle device; the first batch, which compiles,
is not. 17 is prime, so that all of a row's queries are timed in turn."""


@dataclass(kw_only=True)
class InFlightStep:
    """A decode step whose tokens have not been read."""

    sampled: Sampled
    states: list[SequenceState | None]
    """The program of each slot."""
    segments: list[int]
    """Segment number of each slot; 0 if the token is discarded."""
    is_awaited: bool
    """Whether it samples the first token of a text that is streamed: it is read before the next step is launched."""

    def of_slots(self, slots: list[int]) -> "InFlightStep":
        """The step for some of the slots."""
        return replace(
            self,
            sampled=self.sampled.of_slots(slots),
            states=[self.states[slot] for slot in slots],
            segments=[self.segments[slot] for slot in slots],
        )


class Engine:
    """Runs programs on `model`, each within `context` tokens. One run at a time.

    Args:
        slots: Maximum number of programs that run at the same time.
        limit: Memory budget in bytes for everything MLX has in use. When the KV caches would outgrow it, the engine
            continues with fewer slots, down to one. Only programs whose requests can be renewed lose their slots; they
            restart later. None: no limit.
        prefixes: Prefix cache to share with other engines. Default: one of its own.
        variant: Name of the model and adapter; only engines of the same variant reuse each other's prefixes.
        speculation: Guesses several tokens per step while one program runs; its text stays the same (in fp32).
    """

    def __init__(
        self,
        model: Any,
        *,
        slots: int = 16,
        context: int = 8192,
        limit: int | None = None,
        prefixes: PrefixCache | None = None,
        variant: str = "",
        speculation: Speculation | None = None,
    ) -> None:
        self.model, self.slots, self.context, self.limit = model, slots, context, limit
        self.stats = EngineStats()
        self.prefixes, self.variant = prefixes or PrefixCache(), variant
        self.speculation = speculation
        self._restarts: list[Request] = []
        """Requests that lost their slots."""
        self._arrived = 0
        """Number of programs started so far."""
        self._queried = 0
        """Number of query batches so far."""
        self.close_slots()

    def close_slots(self) -> None:
        """Start again without slots and KV caches."""
        self.caches: list[SlotCache] = slot_caches(self.model, slots=0)
        self.stepper = Stepper(self.model, self.caches, self.limit)
        self.window = min((cache.window for cache in self.caches if cache.window is not None), default=None)
        self.states: list[SequenceState | None] = []
        self.cached: list[list[int]] = []
        """Tokens still in the KV cache of each free slot."""
        self.flight: InFlightStep | None = None
        """The decode step whose tokens have not been read."""
        self.budget = MemoryBudget(self.limit)
        self.spare_steps = 0
        """Decode steps in a row with more slots or capacity than needed."""

    def run(self, requests: Iterable[Request | None]) -> Iterator[Done]:
        """Yield each program as it ends; requests are drawn from the iterable when a slot is free.

        None from the iterable means that there is no request yet; the next one is drawn after the next decode step. A
        None while no program is running ends the run.

        An exception in a program ends that program alone: `Done.result` raises it. A run may be closed before its end.
        """
        for done in self.steps(requests):
            if done is not None:
                yield done

    def steps(self, requests: Iterable[Request | None]) -> Iterator[Done | None]:
        """Like `run`, and yield None after each decode step, so that one thread can alternate between engines."""
        assert not any(self.states), "one run at a time"
        self._restarts.clear()
        self.flight = None
        try:
            yield from self._turns(iter(requests))
        except GeneratorExit:
            for slot, state in enumerate(self.states):
                if state is not None:
                    self._leave(slot, state)
            raise
        except BaseException:
            self.close_slots()  # the KV caches may be half written
            raise

    @property
    def running(self) -> int:
        """Number of programs in slots."""
        return sum(state is not None for state in self.states)

    def _turns(self, waiting: Iterator[Request | None] | None) -> Iterator[Done | None]:
        while True:
            waiting = yield from self._prepare(waiting)
            drop_unneeded_slots(self, more_requests=waiting is not None)
            self._restarts += drop_unaffordable_slots(self)
            constrained = [state for state in self.states if state is not None and state.constrained]
            for state in constrained:
                state.is_alone = self.running == 1
            flight = self.flight
            if flight is not None and (constrained or flight.is_awaited):
                self.flight = None
                self._read(flight)
                continue
            for state in constrained:
                state.restrict()
            if any(state.ended for state in constrained):
                continue
            guessed = guesses_for(self)
            if guessed is not None:
                self.flight = None
                if flight is not None:
                    self._read(flight)  # the guesses depend on its token
                    continue
                check(self, *guessed)
                yield None
                continue
            decodes = any(state is not None and state.decodes for state in self.states)
            began = time.perf_counter()
            self.flight = self._launch(flight) if decodes else None
            if flight is not None:
                self._read(flight)
                if self.speculation is not None:
                    self.speculation.stepped(time.perf_counter() - began)
            elif not decodes and not any(self.states):
                return
            yield None

    # ---- slots

    def _prepare(
        self, waiting: Iterator[Request | None] | None
    ) -> Generator[Done, None, Iterator[Request | None] | None]:
        """Bring every program to its next decode step, or as far as one chunk of prefill takes it.

        Ended and cancelled programs are yielded, and requests take their slots. Returns the remaining requests; None
        if there are none.
        """
        chunk = budget = chunk_size(self)
        while True:
            yield from self._collect()
            waiting = self._fill(waiting)
            budget = prefill(self, chunk, budget)
            if not any(state is not None and state.ended for state in self.states):
                return waiting

    def _collect(self) -> Iterator[Done]:
        """Yield ended programs and free their slots."""
        for slot, state in enumerate(self.states):
            if state is None:
                continue
            if state.request.cancelled.is_set() and not state.ended:
                state.cancel()
            if state.ended:
                self._leave(slot, state)
                yield state.done()

    def _fill(self, waiting: Iterator[Request | None] | None) -> Iterator[Request | None] | None:
        """Start a program in every free slot. Returns the remaining requests; None if there are none."""
        while self._restarts or waiting is not None:
            slot = next((slot for slot, state in enumerate(self.states) if state is None), len(self.states))
            if slot == self.slots:
                break
            try:
                request = self._restarts.pop(0) if self._restarts else next(cast(Iterator[Request | None], waiting))
            except StopIteration:
                return None
            if request is None:
                break
            if slot == len(self.states):
                open_more_slots(self)
            self._arrived += 1
            self.states[slot] = SequenceState(request, self.context, self.window, order=self._arrived)
        return waiting

    def _leave(self, slot: int, state: SequenceState) -> None:
        """Free a slot. It keeps its KV cache, and room after it for the tokens that a free slot writes."""
        self.states[slot] = None
        if not state.entered:
            return
        self.cached[slot] = state.sequence[: min(state.fed, self.context - 1)]
        if state.request.keep and self.cached[slot]:
            self.prefixes.add(self.cached[slot], slot, self.caches, self.variant)

    # ---- queries

    def query(self, slot: int, state: SequenceState, queries: Sequence[Query]) -> tuple[Reply, ...]:
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

    # ---- decode steps

    def _launch(self, flight: InFlightStep | None) -> InFlightStep:
        """Start a decode step: each program feeds its next known token, or the one in flight."""
        feeds, segments = [], []
        is_awaited = False
        for state, cached in zip(self.states, self.cached, strict=True):
            if state is None or not state.decodes:
                # A free slot writes after its content, and a program that is prefilled where its next token will be.
                position = state.fed if state is not None and state.entered else len(cached)
                feeds.append(Feed(token=0, position=position, seed=0, sampling=GREEDY, first=False))
                segments.append(0)
                continue
            assert isinstance(state.active, Sample)
            position, known = state.fed, len(state.sequence)
            token = state.sequence[position] if position < known else None
            state.fed += 1
            self.stats.forced += position < state.start
            samples = state.fed >= known
            is_awaited = is_awaited or (state.fed == state.start and state.is_streamed)
            feeds.append(
                Feed(
                    token=token,
                    position=position,
                    seed=state.request.seed + (state.active.salt << 48),
                    sampling=state.active.sampling if samples else GREEDY,
                    first=state.fed == state.start,
                    **(_extras(state) if samples else {}),
                )
            )
            segments.append(state.segment if samples else 0)
        self.reserve(1 + max(feed.position for feed in feeds))
        sampled = self.stepper.step(feeds, None if flight is None else flight.sampled.tokens)
        self.stats.steps += 1
        self.stats.slot_steps += len(feeds)
        return InFlightStep(sampled=sampled, states=list(self.states), segments=segments, is_awaited=is_awaited)

    def _read(self, flight: InFlightStep) -> None:
        """Read the tokens of the previous step and send them to their programs."""
        tokens = cast(list[int], flight.sampled.tokens.tolist())
        scores = flight.sampled.scores_of_slots()
        for state, segment, token, score in zip(flight.states, flight.segments, tokens, scores, strict=True):
            if state is None or state.ended:
                self.stats.idle += 1
            elif segment == state.segment:
                self.stats.sampled += 1
                state.wrote(token, score)

    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` positions in every slot."""
        for cache in self.caches:
            if cache.reserve(tokens):
                self.budget.settle(cache)


def _extras(state: SequenceState) -> dict[str, Any]:
    """Fields of a `Feed` that only some segments need."""
    sample = state.active
    assert isinstance(sample, Sample)
    extras: dict[str, Any] = {"alternatives": sample.alternatives}
    if sample.sampling.penalises:
        extras["history"] = History(key=(state.order, state.segment), sequence=state.sequence, start=state.start)
    if sample.constraint is not None:
        extras["allowed"] = state.allowed
    return extras


def context_length(model: Any) -> int:
    """Maximum tokens of a sequence, prompt and response together; `model` is ours or mlx-lm's."""
    config = getattr(model, "config", None) or getattr(model, "args", None)
    stated = getattr(config, "max_position_embeddings", None)
    return stated if isinstance(stated, int) and stated > 0 else UNSTATED_CONTEXT
