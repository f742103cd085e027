"""Several processes that learn one model: each takes its rows of every batch, and the gradients are added up.

Under `mlx.launch` MLX finds the others by itself; alone, a process is the first of one and nothing is sent.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from mlx_suite.runtime.errors import UserError

Tree = TypeVar("Tree")

MESSAGE_BYTES = 2**25
"""Bytes that travel together, as in MLX's `average_gradients`: many small arrays one by one would be slow."""


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """This process among the others."""

    rank: int = 0
    size: int = 1
    group: Any = None
    patience: float = 3600.0
    """Seconds to wait for the others. The first may have samples to write or a model to fetch meanwhile."""

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the one that writes files and talks."""
        return self.rank == 0

    def all_sum(self, tree: Tree) -> Tree:
        """The sum over all processes of each array, in its dtype."""
        if self.size == 1:
            return tree
        flat: Any = tree_flatten(tree)
        summed: dict[str, mx.array] = {}
        for names in _messages(dict(flat)):
            arrays = [array for name, array in flat if name in names]
            together = self._sum(mx.concatenate([array.reshape(-1) for array in arrays]))
            ends = [sum(array.size for array in arrays[: i + 1]) for i in range(len(arrays) - 1)]
            parts = mx.split(together, ends) if ends else [together]
            summed |= {name: part.reshape(array.shape) for name, part, array in zip(names, parts, arrays, strict=True)}
        result: Tree = tree_unflatten([(name, summed[name]) for name, _ in flat])
        return result

    def broadcast(self, tree: Tree) -> Tree:
        """The first process's arrays for all: the others' are of the same shapes and are not looked at."""
        if self.size == 1:
            return tree
        mine: Tree = tree if self.is_rank_zero else tree_map(mx.zeros_like, tree)
        return self.all_sum(mine)

    def _sum(self, array: mx.array) -> mx.array:
        """One sum at a time: after a process is lost MLX raises for the first one and may hang in a later one."""
        mx.eval(array)
        summed = mx.distributed.all_sum(array, group=self.group)
        with _end_of_patience(self.patience):
            mx.eval(summed)
        return summed


def _messages(arrays: dict[str, mx.array]) -> Iterator[list[str]]:
    """Names of arrays of one dtype that fill a message, in an order that is the same everywhere."""
    for dtype in dict.fromkeys(array.dtype for array in arrays.values()):
        names, size = [], 0
        for name, array in arrays.items():
            if array.dtype == dtype:
                names.append(name)
                size += array.nbytes
                if size >= MESSAGE_BYTES:
                    yield names
                    names, size = [], 0
        if names:
            yield names


@contextmanager
def _end_of_patience(seconds: float) -> Iterator[None]:
    """Leave the program with an error if what is inside takes longer: MLX's wait has no end and cannot be broken off.

    A machine without power or net says no goodbye, so its connections just stay silent.
    """

    def leave() -> None:
        error = UserError(
            f"Another process of this run has been silent for {seconds:.0f} seconds",
            fix="look whether its machine still runs, then start the same command again: it goes on from the last "
            "checkpoint",
        )
        print(error, file=sys.stderr, flush=True)
        os._exit(2)  # the last checkpoint is whole: it was renamed into its place

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def join() -> ProcessGroup:
    """The processes that were started together; waits for all of them.

    Raises UserError where they cannot reach each other.
    """
    _leave_out_ring_of_one()
    try:
        group = mx.distributed.init()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The processes of this run do not find each other: {str(error).splitlines()[0]}",
            fix="look at the hosts, the backend and the ports given to mlx.launch",
        ) from error
    return ProcessGroup(rank=group.rank(), size=group.size(), group=group)


def _leave_out_ring_of_one() -> None:
    """`mlx.launch -n 1` names a file of addresses without any, which MLX cannot read."""
    try:
        if not Path(os.environ["MLX_HOSTFILE"]).read_text().strip():
            del os.environ["MLX_HOSTFILE"]
    except (KeyError, OSError):
        return


@contextmanager
def lost_process(run: Path, saved_step: Callable[[], int | None]) -> Iterator[None]:
    """Turn MLX's error about a broken connection into a UserError; `saved_step()` tells the last checkpoint's, if any.

    A process that ends takes its connections with it, and the others' next sum fails: MLX raises, it does not hang.
    """
    try:
        yield
    except RuntimeError as error:
        if "peer" not in str(error) and "[ring]" not in str(error):
            raise
        saved = saved_step()
        raise UserError(
            "Another process of this run is gone",
            where=str(run),
            fix="look at that process's own message, then start the same command again",
            details=[] if saved is None else [f"the checkpoint of step {saved} is whole"],
        ) from error
