"""The thread that owns MLX: it loads the models, and alternates between their engines, one decode step each."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any

import mlx.core as mx

from mlx_suite.engine import Cancelled, Engine
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.engine.prefix_cache import PrefixCache
from mlx_suite.serving.admission import KVCost, measure_cost
from mlx_suite.serving.lane import Job, Lane
from mlx_suite.serving.service import ServiceStatus

_log = logging.getLogger("mlx_suite")


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model to serve."""

    name: str
    chat: ChatModel
    base: str
    """Name of the model whose weights it shares; its own name if it shares none."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a worker."""

    slots: int = 16
    """Programs that run at the same time, per model."""
    waiting: int = 64
    """Programs that wait, all models together."""
    kv_bytes: int = 1 << 30
    """Bytes of all KV caches together."""
    prefix_bytes: int = 1 << 28
    """Bytes of the prefix cache."""


class Worker:
    """Runs programs on served models, on one thread of its own.

    Args:
        load: Loads the models; called on the thread, because MLX arrays belong to the thread that makes them.
        limits: Gives the limits; called after `load`, since they may depend on the memory that is left.
    """

    def __init__(self, load: Callable[[], Sequence[LoadedModel]], limits: Callable[[], Limits] = Limits) -> None:
        self.limits = Limits()
        self.models: Mapping[str, LoadedModel] = {}
        self.costs: Mapping[str, KVCost] = {}
        self._load, self._limits = load, limits
        self._lanes: dict[str, Lane] = {}
        self._prefixes = PrefixCache(max_bytes=self.limits.prefix_bytes)
        self._inbox: deque[tuple[str, Job]] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._wake = Condition()
        self._closing = False
        self._requests = self._failures = 0
        self._last_failure: str | None = None
        self._thread = Thread(target=self._main, name="mlx", daemon=True)
        self._loaded: Future[None] = Future()

    def start(self) -> None:
        """Load the models and start working. Raises what `load` raises."""
        self._thread.start()
        self._loaded.result()

    def close(self) -> None:
        """Cancel everything and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    @property
    def running(self) -> int:
        """Jobs in slots."""
        return sum(len(lane.running) for lane in self._lanes.values())

    @property
    def waiting(self) -> int:
        """Jobs that no slot has taken yet."""
        return len(self._inbox) + sum(len(lane.waiting) for lane in self._lanes.values())

    def submit(self, model: str, job: Job) -> None:
        """Queue a job; from any thread."""
        with self._wake:
            assert not self._closing, "the worker is closed"
            self._inbox.append((model, job))
            self._requests += 1
            self._wake.notify()

    def call(self, work: Callable[[], Any]) -> "Future[Any]":
        """Run a function on the thread, between two decode steps; from any thread."""
        future: Future[Any] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except Exception as error:
                    future.set_exception(error)

        with self._wake:
            assert not self._closing, "the worker is closed"
            self._calls.append(run)
            self._wake.notify()
        return future

    def status(self) -> ServiceStatus:
        """Load and counters; from any thread."""
        lanes = list(self._lanes.values())
        return ServiceStatus(
            running=self.running,
            waiting=self.waiting,
            slots=self.limits.slots * len(lanes),
            kv_bytes=sum(lane.reserved for lane in lanes),
            prefix_bytes=self._prefixes.nbytes,
            requests=self._requests,
            prefilled=sum(lane.engine.stats.prefilled for lane in lanes),
            reused=sum(lane.reused for lane in lanes),
            generated=sum(lane.engine.stats.sampled for lane in lanes),
            failures=self._failures,
            last_failure=self._last_failure,
        )

    # ---- on the thread

    def _main(self) -> None:
        try:
            self._open()
        except BaseException as error:
            self._loaded.set_exception(error)
        else:
            self._loaded.set_result(None)
            self._work()
        mx.clear_streams()  # a thread that ends with streams of its own aborts the process at exit

    def _work(self) -> None:
        while self._wait():
            now = time.monotonic()
            for lane in self._lanes.values():
                if lane.is_active:
                    lane.cancel_late(now)
                    self._step(lane)
        self._end()

    def _open(self) -> None:
        models = self._load()
        self.limits = self._limits()
        self._prefixes = PrefixCache(max_bytes=self.limits.prefix_bytes)
        for model in models:
            engine = Engine(
                model.chat.model,
                slots=self.limits.slots,
                context=model.chat.context,
                prefixes=self._prefixes,
                variant=model.name,
            )
            tokenizer = model.chat.tokenizer
            cost = measure_cost(engine, token=tokenizer.bos_id or 0)
            self._lanes[model.name] = Lane(engine, cost, self._fits)
        self.costs = {name: lane.cost for name, lane in self._lanes.items()}
        self.models = {model.name: model for model in models}

    def _wait(self) -> bool:
        """Take what has arrived; wait if there is nothing to do. Returns False at the end."""
        with self._wake:
            while not (self._closing or self._inbox or self._calls):
                if any(lane.is_active for lane in self._lanes.values()):
                    break
                self._wake.wait()
            if self._closing:
                return False
            while self._inbox:
                model, job = self._inbox.popleft()
                self._lanes[model].waiting.append(job)
            calls = list(self._calls)
            self._calls.clear()
        for call in calls:
            call()
        return True

    def _step(self, lane: Lane) -> None:
        try:
            lane.step()
        except Exception as error:
            _log.exception("the engine failed; %d requests are lost, others continue", len(lane.running))
            self._failures += 1
            self._last_failure = f"{type(error).__name__}: {error}"
            lane.fail(error)

    def _fits(self, lane: Lane, needed: int) -> bool:
        """Whether a lane's KV caches may need this many bytes. KV caches of idle lanes are freed if that is necessary.

        Alone, a job always fits: what exceeds the budget was refused before it was queued.
        """
        others = [each for each in self._lanes.values() if each is not lane]
        if needed + sum(each.reserved for each in others) <= self.limits.kv_bytes:
            return True
        for each in others:
            if not each.running:
                each.release()
        return needed + sum(each.reserved for each in others) <= self.limits.kv_bytes

    def _end(self) -> None:
        for lane in self._lanes.values():
            lane.fail(Cancelled())
        for job in [job for lane in self._lanes.values() for job in lane.waiting] + [job for _, job in self._inbox]:
            job.fail(Cancelled())
        for call in self._calls:
            call()
