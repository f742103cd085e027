"""How many rows a run may make side by side: as many as there is memory for when all of them are as long as can be.

    weights + rows · (keys and values of the longest row + what a step needs for a row) + what questions need

Rows are the same whatever the batch, so a smaller one costs time and nothing else.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx

from mlx_suite.engine.context import context_length
from mlx_suite.engine.engine import CHUNK
from mlx_suite.engine.prefix_cache import MAX_TOKENS as PREFIX_TOKENS
from mlx_suite.engine.scoring import replies, room
from mlx_suite.engine.slots import SlotRow, slot_caches
from mlx_suite.engine.step import IN_PLACE, vocabulary_size
from mlx_suite.magpie.row import Plan
from mlx_suite.magpie.settings import MagpieSettings
from mlx_suite.runtime.container import processes_here
from mlx_suite.runtime.device import device
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.memory import available_memory, human_bytes, parse_size

TURN = 32
"""Tokens around a turn: headers and ends. More than any template has."""
DRAW = 4
"""Arrays in float32 over the vocabulary that are alive while a token is drawn: probabilities, their sums, …"""
SORT = 4
"""More of them where only the probable tokens are kept."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes that a run of one model takes."""

    there: int
    """In use before the run: the weights."""
    row: int
    """Keys and values of the longest row."""
    step: int
    """For each row, what a step needs beside them."""
    fixed: int
    """However many rows: headers that are kept, the questions to one row."""

    def of(self, rows: int) -> int:
        """Of so many rows side by side."""
        return self.there + self.fixed + rows * (self.row + self.step) + min(IN_PLACE, rows * self.row)

    def rows(self, ceiling: int) -> int:
        """Rows for which `ceiling` is enough."""
        most = max(0, ceiling - self.there - self.fixed) // (self.row + self.step)
        while most and self.of(most) > ceiling:
            most -= 1
        return most


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a run may take."""

    slots: int
    """Rows to make side by side."""
    ceiling: int
    """Bytes that MLX may have in use."""
    limit: int
    """Bytes in use past which the engine gives up slots: the ceiling without what a step and questions need."""
    note: str | None = None
    """Why there are fewer slots than was asked for."""


def ceiling_of(settings: MagpieSettings) -> int:
    """Bytes that MLX may have in use: what the user says, or what there is, shared with the run's other processes."""
    if settings.memory is not None:
        given = parse_size(settings.memory)
        assert given is not None, "settings are checked"
        return given
    here = device()
    if here.kind == "cuda":
        return here.working_set_bytes // processes_here()
    # What this process holds already is not free any more, and is its own.
    return min(here.working_set_bytes, available_memory() + mx.get_active_memory()) // processes_here()


def make_room(model: Any, plan: Plan, slots: int) -> Room:
    """Room for `slots` rows side by side, or for as many as there is memory for.

    Raises UserError where the memory that the user allows is not enough for one.
    """
    footprint, ceiling = footprint_of(model, plan), ceiling_of(plan.settings)
    possible = footprint.rows(ceiling)
    if possible < 1 and plan.settings.memory is not None:
        raise _too_little(footprint, ceiling)
    kept = max(1, min(slots, possible))
    note = None
    if kept < slots:
        note = (
            f"{kept} rows side by side in place of {slots}: those would take up to {human_bytes(footprint.of(slots))}, "
            f"and {human_bytes(ceiling)} may be taken (--memory). The rows stay the same."
        )
    limit = ceiling - footprint.fixed - kept * footprint.step
    return Room(slots=kept, ceiling=ceiling, limit=limit, note=note)


@contextmanager
def within(room: Room, settings: MagpieSettings) -> Iterator[None]:
    """In the block MLX keeps to the ceiling, if the user has set one: freed memory is given back when it is near."""
    if settings.memory is None:
        yield
        return
    before = mx.set_memory_limit(room.ceiling), mx.set_cache_limit(room.ceiling // 8)
    try:
        yield
    finally:
        mx.set_memory_limit(before[0])
        mx.set_cache_limit(before[1])


def footprint_of(model: Any, plan: Plan) -> Footprint:
    """The footprint of a run, measured on `model`, which may be any that the engine runs.

    It reads a header and asks the questions once, behind as many tokens as they may have before them.
    """
    context = context_length(model)
    longest = longest_row(plan, context)
    header = list(plan.pre_query.header_ids)[-min(CHUNK, longest) :]
    caches = slot_caches(model, 1)

    def read() -> None:
        for cache in caches:
            cache.reserve(len(header))
        mx.eval(model(mx.array([header]), cache=[SlotRow(cache, 0, 0) for cache in caches]))

    passes = [_passing(read)]
    for cache in caches:
        cache.reserve(longest)
        mx.eval(cache.state)
    asides = []
    if plan.tagger is not None:
        asked = min(longest, len(header) + plan.settings.max_instruction + TURN)
        asides += [(plan.tagger.instruction, asked), (plan.tagger.answer, longest)]
    for aside, length in asides:
        position = min(length, context - max(map(room, aside.queries), default=0)) - 1
        if aside.queries and position > 0:
            ask = partial(replies, model, caches, 0, position, header[-1], aside.queries)
            passes.append(_passing(ask))
    layers = [cache.slot_bytes(longest) for cache in caches]
    limited = plan.settings.mix is not None or min(plan.settings.top_p, plan.settings.answer_top_p) < 1
    kept = PREFIX_TOKENS if plan.settings.steered else len(header)
    return Footprint(
        there=mx.get_active_memory() - sum(layers),
        row=sum(layers),
        # A layer's keys and values are there twice while it grows.
        step=max(layers) + 4 * vocabulary_size(model) * (DRAW + (SORT if limited else 0)),
        fixed=sum(layers) * kept // longest + max(passes),
    )


def _passing(act: Callable[[], object]) -> int:
    """Bytes that are in use meanwhile and not behind it."""
    mx.reset_peak_memory()
    act()
    return mx.get_peak_memory() - mx.get_active_memory()


def longest_row(plan: Plan, context: int) -> int:
    """Tokens of the longest row that the limits and the context allow."""
    settings = plan.settings
    turn = settings.max_instruction + settings.max_answer + TURN
    return min(context, len(plan.pre_query.header_ids) + TURN + settings.turns * turn)


def _too_little(footprint: Footprint, ceiling: int) -> UserError:
    weights, row = human_bytes(footprint.there), human_bytes(footprint.of(1) - footprint.there)
    smaller = "use a model with fewer bits (mlx-suite quantize MODEL) or a smaller one"
    if footprint.there < ceiling:
        smaller = f"lower --max-answer or --max-instruction, or {smaller}"
    return UserError(
        f"{human_bytes(ceiling)} are not enough: the weights take {weights}, one row of the longest up to {row}",
        where="--memory",
        fix=f"allow {human_bytes(1.02 * footprint.of(1))}, {smaller}",
    )
