"""Pieces of work that take turns, each in a process of its own.

What one has in memory is then nobody else's, and a machine that slows down slows all of them.
"""

import multiprocessing
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, Protocol

from mlx_suite.runtime.errors import UserError


class Turns(Protocol):
    """What a piece of work is given: it waits for its turn, and reports when it is over."""

    def wait(self) -> None: ...

    def report(self, result: Any) -> None: ...


ENDING = 10.0
"""Seconds that a process may take to end by itself when all is done."""

Work = Callable[[Any, Turns], None]
"""A function of a module, given its job and its turns."""


class PipedTurns:
    """Turns that another process gives."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def wait(self) -> None:
        self._pipe.recv()

    def report(self, result: Any) -> None:
        self._pipe.send((result, ""))


def take_turns(works: Mapping[str, tuple[Work, Any]], turns: int) -> dict[str, list[Any]]:
    """What each piece of work reports of its `turns` turns; all are at their ends when this returns.

    Raises UserError with the last words of a piece of work that fails or ends too early.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    results: dict[str, list[Any]] = {name: [] for name in works}
    try:
        for name, (work, job) in works.items():
            pipes[name], other = context.Pipe()
            process = context.Process(target=_run, args=(work, job, other), daemon=True)
            process.start()
            other.close()
            processes.append(process)
        for _ in range(turns):
            for name, pipe in pipes.items():
                pipe.send("your turn")
                results[name].append(_result(name, pipe))
        for name, pipe in pipes.items():
            _result(name, pipe)
        for process in processes:
            process.join(ENDING)
        return results
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _run(work: Work, job: Any, pipe: Connection) -> None:
    try:
        work(job, PipedTurns(pipe))
        pipe.send((None, ""))
    except Exception:
        pipe.send((None, traceback.format_exc()))


def _result(name: str, pipe: Connection) -> Any:
    try:
        result, trouble = pipe.recv()
    except EOFError:
        result, trouble = None, "the process was ended, for want of memory perhaps"
    if trouble:
        raise UserError(
            f"{name} has failed",
            details=trouble.strip().splitlines()[-8:],
            fix="leave it out, or take a smaller model or fewer rows",
        )
    return result
