"""Counters and histograms of a server, in Prometheus' form."""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlx_suite.engine import Done, Request
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.serving.generation import Delta, Ended, Event, Generation
from mlx_suite.serving.service import Result, ServedModel, Service, ServiceStatus, Stream

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the histograms."""
COUNTERS = {
    "mlx_suite_prompt_tokens": ("Prompt tokens prefilled", "prefilled"),
    "mlx_suite_cached_tokens": ("Prompt tokens found in a KV cache", "reused"),
    "mlx_suite_generated_tokens": ("Tokens generated", "generated"),
    "mlx_suite_failures": ("Failures of the engine", "failures"),
}
GAUGES = {
    "mlx_suite_running": ("Choices in flight", "running"),
    "mlx_suite_waiting": ("Requests in the queue", "waiting"),
    "mlx_suite_slots": ("Choices that can be in flight at once", "slots"),
    "mlx_suite_kv_bytes": ("Size of the KV caches of choices in flight", "kv_bytes"),
    "mlx_suite_prefix_bytes": ("Size of the prefix caches", "prefix_bytes"),
}
"""Name of a metric: its help, and the field of `ServiceStatus`."""


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self, status: Callable[[], ServiceStatus]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(StatusCollector(status))
        self.requests = Counter(
            "mlx_suite_http_requests", "Answered requests", ["route", "status"], registry=self.registry
        )
        self.first_token = Histogram(
            "mlx_suite_time_to_first_token_seconds",
            "From a request's submission to its first token",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.duration = Histogram(
            "mlx_suite_generation_seconds",
            "From a request's submission to the end of its last choice",
            buckets=SECONDS,
            registry=self.registry,
        )

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class StatusCollector(Collector):
    """Reads the service's counters when the metrics are asked for."""

    def __init__(self, status: Callable[[], ServiceStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        for name, (text, field) in COUNTERS.items():
            yield CounterMetricFamily(name, text, value=getattr(status, field))
        for name, (text, field) in GAUGES.items():
            yield GaugeMetricFamily(name, text, value=getattr(status, field))


class CountedRequests:
    """Pure ASGI middleware that counts answers by route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._requests = metrics.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The pattern, not the path: paths that clients make up must not become series.
                route = getattr(scope.get("route"), "path", "other")
                self._requests.labels(route, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, send_counted)


class MeasuredStream:
    """A stream whose first token and end are measured."""

    def __init__(self, stream: Stream, metrics: Metrics, begun: float) -> None:
        self._stream, self._metrics, self._begun = stream, metrics, begun

    async def __aiter__(self) -> AsyncIterator[Event]:
        waiting, ended = True, False
        async for event in self._stream:
            if waiting and isinstance(event, Delta):
                waiting = False
                self._metrics.first_token.observe(time.perf_counter() - self._begun)
            ended = ended or isinstance(event, Ended)
            yield event
        if ended:
            self._metrics.duration.observe(time.perf_counter() - self._begun)

    def cancel(self) -> None:
        self._stream.cancel()


class MeasuredService:
    """A service whose generations are measured."""

    def __init__(self, service: Service, metrics: Metrics) -> None:
        self._service, self._metrics = service, metrics

    @property
    def models(self) -> Mapping[str, ServedModel]:
        return self._service.models

    def status(self) -> ServiceStatus:
        return self._service.status()

    def model(self, name: str) -> ServedModel:
        return self._service.model(name)

    async def start(self, generation: Generation) -> Stream:
        begun = time.perf_counter()
        return MeasuredStream(await self._service.start(generation), self._metrics, begun)

    def submit(self, model: str, request: Request, on_done: Callable[[Done], None], tokens: int | None = None) -> None:
        self._service.submit(model, request, on_done, tokens)

    async def call(self, model: str, work: Callable[[ChatModel], Result]) -> Result:
        return await self._service.call(model, work)

    async def embed(self, model: str, prompts: Sequence[tuple[int, ...]]) -> list[list[float]]:
        return await self._service.embed(model, prompts)
