"""Workers that take turns, each in its own process.

Memory is then measured per worker, and a slower machine slows all of them.
"""

import multiprocessing
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, Protocol

from mlx_suite.runtime.errors import UserError


class TurnOrder(Protocol):
    """A worker's side of the protocol: wait for a turn, report when it is over."""

    def wait(self) -> None: ...

    def report(self, result: Any) -> None: ...


ENDING = 10.0
"""Seconds to wait for a finished process to exit."""

Work = Callable[[Any, TurnOrder], None]
"""A module-level function, given its job and its turns."""


class PipedTurns:
    """TurnOrder given by another process through a pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def wait(self) -> None:
        self._pipe.recv()

    def report(self, result: Any) -> None:
        self._pipe.send((result, ""))


def take_turns(works: Mapping[str, tuple[Work, Any]], turns: int) -> dict[str, list[Any]]:
    """Run each worker for `turns` turns; returns each worker's reports after all have ended.

    Raises UserError with the end of the traceback if a worker fails or exits early.
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
        result, trouble = None, "the process was killed, possibly for lack of memory"
    if trouble:
        raise UserError(
            f"{name} failed",
            details=trouble.strip().splitlines()[-8:],
            fix="use a smaller model or fewer rows",
        )
    return result
