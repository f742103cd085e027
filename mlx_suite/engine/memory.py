"""Memory budget of the engine: selects the slots to keep when the KV caches would outgrow it."""

from collections.abc import Sequence

import mlx.core as mx

from mlx_suite.engine.sequence import SequenceState
from mlx_suite.engine.slots import SlotCache


class MemoryBudget:
    """A limit on the bytes that MLX has in use. None: no limit."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._checked = 0
        """Largest capacity per slot that has been checked."""

    def slots_to_keep(
        self, states: Sequence[SequenceState | None], caches: Sequence[SlotCache], in_flight: mx.array | None
    ) -> list[int] | None:
        """Slots that fit when the caches grow for the next token; None if all do.

        Programs that cannot be restarted are always kept, then those with the most tokens.

        Args:
            in_flight: Tokens of the step in flight, which must be computed before memory is measured.
        """
        if self.limit is None or not any(states):
            return None
        tokens = 1 + max(state.fed for state in states if state is not None)
        capacity = max(cache.capacity_for(tokens) for cache in caches)
        if capacity <= self._checked or not caches[0].state:
            return None
        self._checked = capacity
        if in_flight is not None:
            mx.eval(in_flight)
        ranked = sorted(range(len(states)), key=lambda slot: _rank(states[slot]), reverse=True)
        fixed = sum(state is not None and state.request.renew is None for state in states)
        keep = sorted(ranked[: max(self._affordable(tokens, caches), fixed, 1)])
        return None if len(keep) == len(states) else keep

    def forget(self) -> None:
        """Check again, because there are more slots."""
        self._checked = 0

    def settle(self, cache: SlotCache) -> None:
        """Reallocate one layer before the next: all at the same time would take twice the memory."""
        if self.limit is not None:
            mx.eval(cache.state)

    def _affordable(self, tokens: int, caches: Sequence[SlotCache]) -> int:
        """Number of slots that fit with a capacity of `tokens`, plus a copy of one layer while it is reallocated."""
        assert self.limit is not None
        sizes = [cache.slot_bytes(tokens) for cache in caches]
        others = mx.get_active_memory() - sum(cache.nbytes for cache in caches)
        return max(0, self.limit - others) // max(sum(sizes) + max(sizes), 1)


def _rank(state: SequenceState | None) -> tuple[bool, int]:
    """Sort key for the cost of losing a slot: whether its program cannot be restarted, then its tokens."""
    return (False, -1) if state is None else (state.request.renew is None, state.fed)
