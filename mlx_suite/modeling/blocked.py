"""Second copies of weight matrices, in the order in which a CPU reads them fastest in a decode step.

A matrix (O, I) is copied in blocks (N, I, O/N), see `runtime.few_rows`, if that was measured to be faster on this
machine; on a GPU there are none. Whatever else uses the weights, such as long prompts, training and saving, sees the
first copy only.

Shapes: I inputs, O outputs, N blocks.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

import mlx.core as mx

from mlx_suite.runtime.container import processes_here
from mlx_suite.runtime.few_rows import in_blocks, measured
from mlx_suite.runtime.memory import available_memory

MOST_MEMORY = 3
"""The copies may take one part in this many of the memory that is left."""
PER_STEP = 1 << 26
"""Bytes that are copied with each decode step, which takes some 30 ms; a larger matrix, such as an LM head, at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Blocked:
    """A matrix and its copy."""

    weight: mx.array
    """(O, I)"""
    blocks: mx.array
    """(N, I, O/N)"""


_made: WeakValueDictionary[int, Blocked] = WeakValueDictionary()
"""All copies that some decode step holds, by the identity of the weight, which they keep alive."""
_used: dict[int, mx.array] = {}
"""The copies of the decode step that is being computed or compiled, likewise."""


class BlockCopies:
    """Copies of a model's matrices for its decode steps, made a few at a time while it decodes.

    Copying a weight takes as long as it saves in some thirty steps, so a short answer does not wait for all of them.
    Decode steps with the same weights share their copies. Copies must leave room for KV caches and other programs:
    there are none if all together would take more than one part in `MOST_MEMORY` of what is left.
    """

    def __init__(self, weights: Iterable[mx.array], limit: int | None = None) -> None:
        """`limit`: bytes that MLX may have in use."""
        chosen = [each for each in weights if each.dtype == mx.float32 and measured(*each.shape).blocked]
        self._made = [_made[id(each)] for each in chosen if id(each) in _made]
        self._left = deque(each for each in chosen if id(each) not in _made)
        self._limit = limit
        self._check_room(MOST_MEMORY)

    @property
    def ready(self) -> list[Blocked]:
        """The copies, once all of them are made; until then none, since a compiled step reads them or does not."""
        return [] if self._left else self._made

    def make_some(self) -> bool:
        """Copy up to `PER_STEP` bytes more, and at least one matrix; returns whether that was the last one."""
        if not self._left:
            return False
        self._check_room(1)
        copied = 0
        while self._left and copied < PER_STEP:
            copied += self._left[0].nbytes
            self._made.append(_blocked(self._left.popleft()))
        return bool(self._made) and not self._left

    def make_all(self) -> None:
        """Copy all that are left."""
        while self._left:
            self.make_some()

    def drop(self) -> bool:
        """Drop all copies and make no more; returns whether there were any."""
        had = bool(self._made)
        self._made, self._left = [], deque()
        return had

    def _check_room(self, share: int) -> None:
        """Drop all if the copies that are left to make take more than one part in `share` of the room."""
        room = available_memory() // processes_here()
        if self._limit is not None:
            room = min(room, self._limit - mx.get_active_memory())
        if self._left and share * sum(each.nbytes for each in self._left) > room:
            self.drop()


@contextmanager
def blocks_in_use(blocked: Sequence[Blocked]) -> Iterator[None]:
    """Let products use the copies; a function compiled meanwhile keeps doing so."""
    _used.update((id(each.weight), each.blocks) for each in blocked)
    try:
        yield
    finally:
        _used.clear()


def blocks_of(weight: mx.array) -> mx.array | None:
    """The copy in use of a weight; None if there is none."""
    return _used.get(id(weight))


def _blocked(weight: mx.array) -> Blocked:
    if (known := _made.get(id(weight))) is not None:
        return known
    made = Blocked(weight=weight, blocks=in_blocks(weight))
    mx.async_eval(made.blocks)
    _made[id(weight)] = made
    return made
