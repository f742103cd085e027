"""The memory budget of a run: how many rows of maximum length fit.

    weights + rows · (KV cache of the longest row + buffers of a step per row) + buffers of queries

Rows do not depend on the batch size, so a smaller one costs only time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx

from mlx_suite.engine import context_length
from mlx_suite.engine.prefill import CHUNK
from mlx_suite.engine.prefix_cache import MAX_TOKENS as PREFIX_TOKENS
from mlx_suite.engine.scoring import query_length, replies
from mlx_suite.engine.slots import SlotRows, slot_caches
from mlx_suite.engine.step import IN_PLACE
from mlx_suite.magpie.plan import RowPlan
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.modeling.head import vocabulary_size
from mlx_suite.runtime.container import processes_here
from mlx_suite.runtime.device import device
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.memory import available_memory, human_bytes, parse_size

TURN_OVERHEAD = 32
"""Upper bound on the tokens that a template adds to a turn: header and stop token."""
SAMPLING_ARRAYS = 4
"""float32 arrays over the vocabulary that are alive while a token is sampled: probabilities, cumulative sums, …"""
SORTING_ARRAYS = 4
"""Additional float32 arrays if top-p is below 1."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Memory use of a run, in bytes."""

    weights: int
    """Bytes in use before the run."""
    row: int
    """KV cache of the longest row."""
    step: int
    """Buffers per row in a decode step."""
    fixed: int
    """Cached headers and query buffers, independent of the number of rows."""

    def of(self, rows: int) -> int:
        """Bytes for this many concurrent rows."""
        return self.weights + self.fixed + rows * (self.row + self.step) + min(IN_PLACE, rows * self.row)

    def rows(self, budget: int) -> int:
        """Number of concurrent rows that fit into a budget."""
        rows = max(0, budget - self.weights - self.fixed) // (self.row + self.step)
        while rows and self.of(rows) > budget:
            rows -= 1
        return rows


@dataclass(frozen=True, kw_only=True)
class RunMemory:
    """Memory that a run may use."""

    slots: int
    """Rows to generate concurrently."""
    budget: int
    """Bytes that MLX may have in use."""
    limit: int
    """Bytes in use at which the engine gives up slots: the budget minus the buffers of steps and queries."""
    note: str | None = None
    """Why there are fewer slots than requested."""


def memory_budget(model: Any, plan: RowPlan, slots: int) -> RunMemory:
    """The budget for `slots` concurrent rows, or for as many as fit.

    Raises UserError if the memory set by the user is too small for one row.
    """
    footprint, budget = footprint_of(model, plan), budget_bytes(plan.settings)
    possible = footprint.rows(budget)
    if possible < 1 and plan.settings.memory is not None:
        raise _too_small(footprint, budget)
    kept = max(1, min(slots, possible))
    note = None
    if kept < slots:
        note = (
            f"Batch of {kept} rows instead of {slots}, which would take up to {human_bytes(footprint.of(slots))} of a "
            f"memory budget of {human_bytes(budget)} (--memory). The rows stay the same."
        )
    limit = budget - footprint.fixed - kept * footprint.step
    return RunMemory(slots=kept, budget=budget, limit=limit, note=note)


def budget_bytes(settings: MagpieSettings) -> int:
    """Bytes that MLX may have in use: the user's setting, or this process's share of the free memory."""
    if settings.memory is not None:
        size = parse_size(settings.memory)
        assert size is not None, "settings are validated"
        return size
    here = device()
    if here.kind == "cuda":
        return here.working_set_bytes // processes_here()
    # Memory that this process already uses is not free but is part of its budget.
    return min(here.working_set_bytes, available_memory() + mx.get_active_memory()) // processes_here()


@contextmanager
def memory_limits(memory: RunMemory, settings: MagpieSettings) -> Iterator[None]:
    """Limit MLX to the budget in the block, if the user has set one, so that it returns freed memory in time."""
    if settings.memory is None:
        yield
        return
    before = mx.set_memory_limit(memory.budget), mx.set_cache_limit(memory.budget // 8)
    try:
        yield
    finally:
        mx.set_memory_limit(before[0])
        mx.set_cache_limit(before[1])


def footprint_of(model: Any, plan: RowPlan) -> Footprint:
    """The footprint of a run, measured on the model.

    Prefills a header and runs each group of queries once, at the last position it can have.
    """
    context = context_length(model)
    longest = longest_row(plan, context)
    header = list(plan.pre_query.header_ids)[-min(CHUNK, longest) :]
    caches = slot_caches(model, 1)

    def prefill() -> None:
        for cache in caches:
            cache.reserve(len(header))
        mx.eval(model(mx.array([header]), cache=[SlotRows(cache, [0], [len(header)], 0) for cache in caches]))

    peaks = [_temporary_bytes(prefill)]
    for cache in caches:
        cache.reserve(longest)
        mx.eval(cache.state)
    queries = []
    if plan.tagger is not None:
        instruction_length = min(longest, len(header) + plan.settings.max_instruction + TURN_OVERHEAD)
        queries += [(plan.tagger.instruction.queries, instruction_length), (plan.tagger.answer.queries, longest)]
    for group, length in queries:
        position = min(length, context - max(map(query_length, group), default=0)) - 1
        if group and position > 0:
            peaks.append(_temporary_bytes(partial(replies, model, caches, 0, position, header[-1], group)))
    layers = [cache.slot_bytes(longest) for cache in caches]
    is_nucleus = plan.settings.mix is not None or min(plan.settings.top_p, plan.settings.answer_top_p) < 1
    arrays = SAMPLING_ARRAYS + (SORTING_ARRAYS if is_nucleus else 0)
    cached = PREFIX_TOKENS if plan.settings.steered else len(header)
    return Footprint(
        weights=mx.get_active_memory() - sum(layers),
        row=sum(layers),
        # A layer's KV cache exists twice while it grows.
        step=max(layers) + 4 * vocabulary_size(model) * arrays,
        fixed=sum(layers) * cached // longest + max(peaks),
    )


def longest_row(plan: RowPlan, context: int) -> int:
    """Tokens of the longest row that the limits and the context allow."""
    settings = plan.settings
    turn = settings.max_instruction + settings.max_answer + TURN_OVERHEAD
    return min(context, len(plan.pre_query.header_ids) + TURN_OVERHEAD + settings.turns * turn)


def _temporary_bytes(act: Callable[[], object]) -> int:
    """Peak bytes in use during a call, less the bytes in use after it."""
    mx.reset_peak_memory()
    act()
    return mx.get_peak_memory() - mx.get_active_memory()


def _too_small(footprint: Footprint, budget: int) -> UserError:
    weights, row = human_bytes(footprint.weights), human_bytes(footprint.of(1) - footprint.weights)
    smaller = "or use a smaller model, or one with fewer bits (mlx-suite quantize MODEL)"
    if footprint.weights < budget:
        smaller = f"lower --max-answer or --max-instruction, {smaller}"
    return UserError(
        f"{human_bytes(budget)} is not enough: the weights take {weights}, the longest row up to {row} more",
        where="--memory",
        fix=f"raise it to {human_bytes(1.02 * footprint.of(1))}, {smaller}",
    )
