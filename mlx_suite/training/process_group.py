"""Data-parallel training: each process takes its share of every batch, and gradients are summed over all processes.

MLX connects the processes started by `mlx.launch`. A process started alone has world size 1 and sends nothing.
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
"""Arrays are sent in messages of about this size, as in MLX's `average_gradients`: one by one would be slow."""


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """Rank and world size of this process, and collective operations."""

    rank: int = 0
    size: int = 1
    """World size."""
    group: Any = None
    """MLX's group; None means the global one."""
    patience: float = 3600.0
    """Timeout of a collective, in seconds: rank 0 may be writing samples or downloading a model meanwhile."""

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def all_sum(self, tree: Tree) -> Tree:
        """Sum each array over all processes, in its own dtype."""
        if self.size == 1:
            return tree
        flat: Any = tree_flatten(tree)
        summed: dict[str, mx.array] = {}
        for names in _messages(dict(flat)):
            arrays = [array for name, array in flat if name in names]
            message = self._sum(mx.concatenate([array.reshape(-1) for array in arrays]))
            ends = [sum(array.size for array in arrays[: i + 1]) for i in range(len(arrays) - 1)]
            parts = mx.split(message, ends) if ends else [message]
            summed |= {name: part.reshape(array.shape) for name, part, array in zip(names, parts, arrays, strict=True)}
        result: Tree = tree_unflatten([(name, summed[name]) for name, _ in flat])
        return result

    def broadcast(self, tree: Tree) -> Tree:
        """Rank 0's arrays; those of other ranks only provide the shapes."""
        if self.size == 1:
            return tree
        mine: Tree = tree if self.is_rank_zero else tree_map(mx.zeros_like, tree)
        return self.all_sum(mine)

    def _sum(self, array: mx.array) -> mx.array:
        """Sum one array and wait for it: after a process is lost, one sum raises, but a later one may hang."""
        mx.eval(array)
        summed = mx.distributed.all_sum(array, group=self.group)
        with _exit_after(self.patience):
            mx.eval(summed)
        return summed


def _messages(arrays: dict[str, mx.array]) -> Iterator[list[str]]:
    """Names of arrays of one dtype that fill a message, in the same order on every rank."""
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
def _exit_after(seconds: float) -> Iterator[None]:
    """Exit the process with an error if the body takes longer: MLX's collectives have no timeout or cancellation.

    A machine that loses power or network does not close its connections.
    """

    def leave() -> None:
        error = UserError(
            f"Another process of this run has not responded for {seconds:.0f} seconds",
            fix="check that its machine is running, then repeat the command: it resumes from the last checkpoint",
        )
        print(error, file=sys.stderr, flush=True)
        os._exit(2)  # safe at any moment: checkpoints are renamed into place

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def join() -> ProcessGroup:
    """Connect to the other processes of this launch; waits for all of them.

    Raises UserError if they cannot reach each other.
    """
    _ignore_empty_hostfile()
    try:
        group = mx.distributed.init()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The processes of this run cannot connect: {str(error).splitlines()[0]}",
            fix="check the hosts, the backend and the ports given to mlx.launch",
        ) from error
    return ProcessGroup(rank=group.rank(), size=group.size(), group=group)


def _ignore_empty_hostfile() -> None:
    """`mlx.launch -n 1` names an empty hostfile, which MLX fails to parse."""
    try:
        if not Path(os.environ["MLX_HOSTFILE"]).read_text().strip():
            del os.environ["MLX_HOSTFILE"]
    except (KeyError, OSError):
        return


@contextmanager
def lost_process(run: Path, saved_step: Callable[[], int | None]) -> Iterator[None]:
    """Convert MLX's error about a broken connection to a UserError that names the last checkpoint, `saved_step()`.

    When a process ends, its connections close, and the next sum raises on all other ranks.
    """
    try:
        yield
    except RuntimeError as error:
        if "peer" not in str(error) and "[ring]" not in str(error):
            raise
        saved = saved_step()
        raise UserError(
            "Another process of this run has exited",
            where=str(run),
            fix="see that process's own error message, then repeat the command",
            details=[] if saved is None else [f"the checkpoint of step {saved} is intact"],
        ) from error
