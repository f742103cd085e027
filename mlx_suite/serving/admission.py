"""Admission by KV cache size: a program starts only if its KV cache fits in the memory budget."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_suite.engine import Engine, Given, Program, Request, Sample
from mlx_suite.engine.slot_count import rounded_up
from mlx_suite.engine.slots import rounded_capacity
from mlx_suite.engine.step import GREEDY


@dataclass(frozen=True, kw_only=True)
class KVCost:
    """Bytes of a slot's KV cache."""

    layers: tuple[tuple[int, int | None], ...]
    """Bytes per token and window of each layer."""

    def of_slot(self, tokens: int) -> int:
        """Bytes of one slot with a capacity of `tokens`."""
        capacity = rounded_capacity(tokens)
        return sum(size * (capacity if window is None else min(capacity, window)) for size, window in self.layers)

    def of_programs(self, tokens: Sequence[int], slots: int) -> int:
        """Bytes of the KV caches of an engine that runs programs of these lengths in at most `slots` slots."""
        return rounded_up(len(tokens), slots) * self.of_slot(max(tokens)) if tokens else 0


def measure_cost(engine: Engine, token: int) -> KVCost:
    """The cost of an engine's slots. Runs the model on one token, which also compiles the decode step."""

    def program() -> Program:
        yield Given((token,))
        yield Sample(limit=2, stop=frozenset(), sampling=GREEDY)

    list(engine.run([Request(program=program())]))
    layers = tuple(
        (sum(each.nbytes // each.shape[0] // each.shape[2] for each in cache.state), cache.window)
        for cache in engine.caches
    )
    return KVCost(layers=layers)
