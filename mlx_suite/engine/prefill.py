"""Prefill: pending text is fed in chunks, between the decode steps of the programs that are further on.

Programs that wait at the same position, such as new ones, are prefilled in one forward pass.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import mlx.core as mx

from mlx_suite.engine.prefix_cache import PrefixEntry, reusable, shared_prefix
from mlx_suite.engine.program import Queries
from mlx_suite.engine.sequence import SequenceState
from mlx_suite.engine.slots import SlotRows
from mlx_suite.modeling.head import vocabulary_size
from mlx_suite.runtime.debug import check_indices

if TYPE_CHECKING:
    from mlx_suite.engine.engine import Engine

CHUNK = 512
"""Tokens per prefill chunk: enough to keep a GPU busy, few enough to bound the attention scores."""
SHARED_CHUNK = 128
"""The same while more programs decode than wait: they pause for as long as a chunk takes."""

WORTH_SHARING = 256
"""Tokens from which a new prefix is stored before its request ends, for a request whose sequence is stored then."""


def chunk_size(engine: "Engine") -> int:
    """Tokens that may be prefilled before the next decode step.

    A step takes as long with idle slots as with full ones, so while most programs wait they are prefilled first.
    """
    states = [state for state in engine.states if state is not None]
    decoding = sum(state.decodes for state in states)
    waiting = sum(state.needs_prefill for state in states)
    return CHUNK if not decoding or (waiting > 1 and waiting >= decoding) else SHARED_CHUNK


def prefill(engine: "Engine", chunk: int, budget: int) -> int:
    """Feed pending text, the oldest program's first, and run queries.

    Args:
        chunk: Most tokens of one program in a forward pass.
        budget: Tokens that may still be fed; returns the rest of it.
    """
    while True:
        filling = sorted(
            (slot for slot, state in enumerate(engine.states) if state is not None and state.needs_prefill),
            key=lambda slot: cast(SequenceState, engine.states[slot]).order,
        )
        if not filling:
            return budget
        slot = filling[0]
        state = cast(SequenceState, engine.states[slot])
        if not state.entered:
            _enter(engine, slot, state, *_reuse(engine, slot, state))
        if len(state.pending) == 1:
            _filled(engine, slot, state)
            continue
        if budget < min(chunk, len(state.pending) - 1):
            return budget
        budget -= _feed(engine, _group(engine, filling, chunk, budget), chunk)


def _reuse(engine: "Engine", slot: int, state: SequenceState) -> tuple[int, PrefixEntry | None]:
    """Length of the longest cached prefix of the start, and its entry; None if the slot itself holds it."""
    start = state.pending[:-1]
    kept = reusable(start, engine.cached[slot], engine.caches)
    saved, entry = engine.prefixes.longest_match(start, engine.caches, engine.variant)
    return (saved, entry) if saved > kept else (kept, None)


def _enter(engine: "Engine", slot: int, state: SequenceState, kept: int, entry: PrefixEntry | None) -> None:
    """Take over `kept` tokens of the program's start from the slot or from a prefix cache entry."""
    start = len(state.pending) - 1
    if entry is not None:
        engine.reserve(kept)
        for cache, layer in zip(engine.caches, entry.layers, strict=True):
            cache.restore(slot, kept, [each[:, :, :kept] for each in layer])
        engine.prefixes.use(entry)
    state.fed, state.entered = kept, True
    state.reused, state.is_new_prefix = kept, kept < start
    if state.request.on_start is not None:
        state.request.on_start(kept)


def _group(engine: "Engine", filling: Sequence[int], chunk: int, budget: int) -> list[int]:
    """Slots to prefill in one forward pass: the first, and others at the same position that fit in the budget.

    A program that shares most of its start with one of them waits: it will reuse that one's KV cache.
    """
    states = cast(Sequence[SequenceState], engine.states)
    group, position = [filling[0]], states[filling[0]].fed
    longest = min(chunk, len(states[filling[0]].pending) - 1)
    for slot in filling[1:]:
        if (len(group) + 1) * longest > budget:
            break
        state = states[slot]
        kept, entry = (state.fed, None) if state.entered else _reuse(engine, slot, state)
        start = state.sequence[:-1]
        length = min(chunk, len(start) - kept)
        shared = max(shared_prefix(start, states[other].sequence) for other in group)
        fits = (len(group) + 1) * max(longest, length) <= budget
        if kept != position or length == 0 or not fits or 2 * (shared - kept) >= len(start) - kept:
            continue
        if not state.entered:
            _enter(engine, slot, state, kept, entry)
        group.append(slot)
        longest = max(longest, length)
    return group


def _feed(engine: "Engine", slots: Sequence[int], chunk: int) -> int:
    """Prefill one chunk of each slot's pending tokens, in one forward pass. Returns the number of tokens.

    The last pending token is left: the next segment needs its output.
    """
    states = [cast(SequenceState, engine.states[slot]) for slot in slots]
    chunks = [state.pending[:-1][:chunk] for state in states]
    lengths, position = [len(chunk) for chunk in chunks], states[0].fed
    for each in chunks:
        check_indices(each, vocabulary_size(engine.model), "token")
    tokens = [each + [0] * (max(lengths) - len(each)) for each in chunks]
    engine.reserve(max(len(state.sequence) for state in states))  # grows once for all chunks
    totals = [len(state.sequence) for state in states]
    rows = [SlotRows(cache, slots, lengths, position, totals) for cache in engine.caches]
    engine.model(mx.array(tokens), cache=rows)
    mx.eval([cache.state for cache in engine.caches])
    for slot, state, length in zip(slots, states, lengths, strict=True):
        state.fed += length
        engine.stats.prefilled += length
        if state.is_new_prefix and len(state.pending) == 1:
            state.is_new_prefix = False
            if not state.request.keep or state.fed - state.reused >= WORTH_SHARING or _is_awaited(engine, state):
                engine.prefixes.add(state.sequence[: state.fed], slot, engine.caches, engine.variant)
    return len(slots) * max(lengths)


def _is_awaited(engine: "Engine", state: SequenceState) -> bool:
    """Whether a program that has not been prefilled shares most of its start with this one."""
    waiting = (other for other in engine.states if other is not None and other.needs_prefill and not other.entered)
    return any(2 * shared_prefix(other.sequence, state.sequence) > len(other.sequence) for other in waiting)


def _filled(engine: "Engine", slot: int, state: SequenceState) -> None:
    """Run the query for which text was prefilled, or leave the program to the decode steps."""
    if isinstance(state.active, Queries):
        state.advance(engine.query(slot, state, state.active.queries))
    else:
        state.filling = False
