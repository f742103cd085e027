"""The number of an engine's slots: it follows the load, because a decode step computes free slots too.

Slots are opened in powers of two, so that few shapes are compiled, and dropped after some steps with half of them free.
The capacity of the KV caches follows the longest program likewise.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from mlx_suite.engine.program import Request

if TYPE_CHECKING:
    from mlx_suite.engine.engine import Engine

PATIENCE = 64
"""Decode steps with more slots or capacity than needed before some are dropped; new requests might need them."""


def open_more_slots(engine: "Engine") -> None:
    """Double the number of slots, up to the engine's maximum."""
    before = len(engine.states)
    slots = rounded_up(before + 1, engine.slots)
    for cache in engine.caches:
        cache.add_slots(slots - before)
        engine.budget.settle(cache)
    engine.budget.forget()
    engine.states += [None] * (slots - before)
    engine.cached += [[] for _ in range(slots - before)]
    engine.stepper.history.keys = []
    if engine.flight is not None:
        engine.flight = replace(
            engine.flight,
            sampled=engine.flight.sampled.with_slots(slots - before),
            states=engine.flight.states + [None] * (slots - before),
            segments=engine.flight.segments + [0] * (slots - before),
        )


def rounded_up(programs: int, slots: int) -> int:
    """Number of slots that an engine of at most `slots` opens for this many programs: a power of two, or all."""
    return min(slots, 1 << (programs - 1).bit_length())


def drop_unneeded_slots(engine: "Engine", *, more_requests: bool) -> None:
    """Drop free slots, and capacity, if half suffices: after the last request, or for PATIENCE steps."""
    busy = [slot for slot, state in enumerate(engine.states) if state is not None]
    if not busy:
        return
    has_spare_slots = 2 * len(busy) <= len(engine.states)
    if not more_requests:
        if has_spare_slots or not engine.caches[0].state:  # nothing is copied yet
            _keep_slots(engine, busy)
        return
    tokens = 1 + max(max(state.fed, len(state.sequence)) for state in engine.states if state is not None)
    has_spare_capacity = any(cache.can_shorten(tokens) for cache in engine.caches)
    engine.spare_steps = engine.spare_steps + 1 if has_spare_slots or has_spare_capacity else 0
    if engine.spare_steps < PATIENCE:
        return
    engine.spare_steps = 0
    if has_spare_slots:
        free = [slot for slot in range(len(engine.states)) if slot not in busy]
        slots = rounded_up(len(busy), engine.slots)
        _keep_slots(engine, sorted([*busy, *free[: slots - len(busy)]]))
    if has_spare_capacity:
        engine.cached = [tokens_of if len(tokens_of) < tokens else [] for tokens_of in engine.cached]
        for cache in engine.caches:
            cache.shorten(tokens)


def drop_unaffordable_slots(engine: "Engine") -> list[Request]:
    """Drop slots before the KV caches outgrow the memory budget. Returns the requests to restart."""
    in_flight = None if engine.flight is None else engine.flight.sampled.tokens
    keep = engine.budget.slots_to_keep(engine.states, engine.caches, in_flight)
    if keep is not None and engine.stepper.drop_copies():  # copies of the weights give way first
        engine.budget.forget()
        keep = engine.budget.slots_to_keep(engine.states, engine.caches, in_flight)
    if keep is None:
        return []
    restarts = []
    for slot in sorted(set(range(len(engine.states))) - set(keep)):
        state = engine.states[slot]
        if state is not None and state.request.renew is not None:
            restarts.append(replace(state.request, program=state.request.renew()))
            engine.stats.restarted += 1
    engine.slots = len(keep)
    _keep_slots(engine, keep)
    return restarts


def _keep_slots(engine: "Engine", keep: list[int]) -> None:
    """Drop all other slots."""
    if engine.flight is not None:
        engine.stats.idle += len(engine.states) - len(keep)
        engine.flight = engine.flight.of_slots(keep)
    engine.stepper.history.keys = []
    for cache in engine.caches:
        cache.keep_slots(keep)
        engine.budget.settle(cache)
    engine.states = [engine.states[slot] for slot in keep]
    engine.cached = [engine.cached[slot] for slot in keep]
