"""Workers that take turns, each in its own process.

Memory is then measured per worker, and a slower machine slows all of them.
"""

import json
import multiprocessing
import os
import resource
import socket
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from mlx_suite.runtime.blas_choice import VARIABLE
from mlx_suite.runtime.errors import UserError
from mlx_suite.runtime.openblas import IDLE


class TurnOrder(Protocol):
    """A worker's side of the protocol: wait for a turn, report when it is over."""

    def wait(self) -> None: ...

    def report(self, result: Any) -> None: ...


NO_BLAS = {VARIABLE: "none", IDLE: "26"}
"""For a process of torch: the BLAS that we load for MLX would take the place of torch's own, and with OpenBLAS, whose
threads compete with torch's, torch trains at a quarter of its speed."""
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


def take_turns(
    works: Mapping[str, tuple[Work, Any]],
    turns: int,
    processes: Mapping[str, int] | None = None,
    own_blas: Collection[str] = (),
) -> dict[str, list[Any]]:
    """Run each worker for `turns` turns; returns each worker's reports after all have ended.

    A worker may consist of several processes, as `mlx.launch -n` starts them: they share its turns, and the report is
    that of rank 0. Raises UserError with the end of the traceback if a worker fails or exits early.

    Args:
        works: Function and job of each worker.
        turns: Turns of each worker.
        processes: Number of processes of the workers with more than one.
        own_blas: Workers that compute with a BLAS of their own, as torch does.
    """
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, list[Connection]] = {name: [] for name in works}
    started: list[Any] = []
    results: dict[str, list[Any]] = {name: [] for name in works}
    with ExitStack() as cleanup:
        cleanup.callback(_end, started)
        folder = Path(cleanup.enter_context(TemporaryDirectory()))
        for name, (work, job) in works.items():
            count = (processes or {}).get(name, 1)
            hosts = _hosts(folder, name, count)
            for rank in range(count):
                pipe, other = context.Pipe()
                process = context.Process(target=_run, args=(work, job, other), daemon=True)
                variables = launch_variables(hosts, rank) | (NO_BLAS if name in own_blas else {})
                with environment(variables):
                    process.start()
                other.close()
                pipes[name].append(pipe)
                started.append(process)
        for _ in range(turns):
            for name in works:
                for pipe in pipes[name]:
                    pipe.send("your turn")
                results[name].append([_result(name, pipe) for pipe in pipes[name]][0])
        for name in works:
            for pipe in pipes[name]:
                _result(name, pipe)
        for process in started:
            process.join(ENDING)
    return results


def resident_peak() -> int:
    """Peak resident memory of this process, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _end(processes: list[Any]) -> None:
    for process in processes:
        process.terminate()
        process.join()


def _hosts(folder: Path, name: str, count: int) -> Path | None:
    """A file with a free address of this machine for each process of a worker, for MLX's ring; None for one process."""
    if count == 1:
        return None
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        hosts = [[f"127.0.0.1:{each.getsockname()[1]}"] for each in sockets]
    file = folder / f"{name}.json"
    file.write_text(json.dumps(hosts))
    return file


def launch_variables(hosts: Path | None, rank: int) -> dict[str, str]:
    """The variables by which `mlx.launch` gives a process its rank; none for a process alone."""
    return {} if hosts is None else {"MLX_HOSTFILE": str(hosts), "MLX_RANK": str(rank)}


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, which processes started meanwhile inherit."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


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
