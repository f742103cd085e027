"""A served model's engine, with the programs that run in it and those that wait."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlx_suite.engine import Cancelled, Done, Engine, Request
from mlx_suite.serving.admission import KVCost


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A program to run, and who receives its result."""

    request: Request
    tokens: int
    """Maximum tokens of its sequence."""
    on_done: Callable[[Done], None]
    """Called on the service's thread; it must not raise."""
    deadline: float
    """Time limit on the clock of `time.monotonic`."""

    def fail(self, error: Exception) -> None:
        """End the program with `error`; only if the engine does not hold it."""
        self.request.program.close()
        self.on_done(Done(request=self.request, error=error))


class Lane:
    """Runs jobs on one engine, in the order of their arrival.

    Args:
        fits: Whether the KV caches may grow to this many bytes.
    """

    def __init__(self, engine: Engine, cost: KVCost, fits: Callable[["Lane", int], bool]) -> None:
        self.engine, self.cost = engine, cost
        self.waiting: deque[Job] = deque()
        self.running: dict[int, Job] = {}
        """By the id of their request."""
        self.reused = 0
        """Tokens of all jobs that were not prefilled, because a KV cache held them."""
        self._fits = fits
        self._slots = engine.slots
        self._run: Iterator[Done | None] | None = None

    @property
    def is_active(self) -> bool:
        return bool(self.waiting or self.running)

    @property
    def reserved(self) -> int:
        """Bytes that the KV caches of the running jobs may need; for an idle lane those that they still occupy."""
        if not self.running:
            return sum(cache.nbytes for cache in self.engine.caches)
        return self._bytes_with(None)

    def step(self) -> None:
        """One decode step. Raises what the engine raises; the running jobs are then lost, the waiting ones are not."""
        if self._run is None:
            self.engine.slots = self._slots  # the engine lowers it when memory is short
            self._run = self.engine.steps(self._requests())
        for done in self._run:
            if done is None:
                return
            self._finish(done)
        self._run = None

    def fail(self, error: Exception) -> None:
        """End the running jobs with an error of the engine."""
        self._run = None
        lost, self.running = self.running, {}
        for job in lost.values():
            job.fail(error)

    def cancel_late(self, now: float) -> None:
        """Cancel the jobs whose time limit has passed, and end the cancelled ones that wait."""
        for job in (*self.waiting, *self.running.values()):
            if now > job.deadline:
                job.request.cancel()
        cancelled = [job for job in self.waiting if job.request.cancelled.is_set()]
        for job in cancelled:
            self.waiting.remove(job)
            job.fail(Cancelled())

    def release(self) -> None:
        """Free the KV caches; only while nothing runs."""
        assert not self.running, "programs are running"
        self._run = None
        self.engine.close_slots()

    def _requests(self) -> Iterator[Request | None]:
        while True:
            yield self._next()

    def _next(self) -> Request | None:
        """The next request to start; None if there is none or its KV cache does not fit yet."""
        if not self.waiting or not self._fits(self, self._bytes_with(self.waiting[0])):
            return None
        job = self.waiting.popleft()
        self.running[id(job.request)] = job
        return job.request

    def _finish(self, done: Done) -> None:
        self.reused += done.reused
        self.running.pop(id(done.request)).on_done(done)

    def _bytes_with(self, job: Job | None) -> int:
        jobs = [*self.running.values(), *([job] if job else [])]
        return self.cost.of_programs([each.tokens for each in jobs], self._slots)
