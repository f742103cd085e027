"""`/health` and `/metrics`."""

from dataclasses import replace
from typing import Any

from starlette.testclient import TestClient

import mlx_suite
from mlx_suite.serving.service import ServiceStatus
from tests.apps.chat.api.live_server import secured_app
from tests.apps.chat.api.scripted_service import Script, ScriptedService

STATUS = ServiceStatus(
    running=3,
    waiting=2,
    slots=16,
    kv_bytes=4096,
    prefix_bytes=512,
    requests=9,
    prefilled=100,
    reused=70,
    generated=40,
)


class BusyService(ScriptedService):
    """A service with a given load."""

    load = STATUS

    def status(self) -> ServiceStatus:
        return self.load


def client(service: ScriptedService) -> TestClient:
    return TestClient(secured_app(service), base_url="http://127.0.0.1")


def numbers(http: TestClient) -> dict[str, str]:
    """The metrics by name and labels."""
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))


def test_health_tells_load_and_models() -> None:
    assert client(BusyService()).get("/health").json() == {
        "status": "ok",
        "version": mlx_suite.__version__,
        "models": ["tiny-llama3", "tiny-llama3:short"],
        "running": 3,
        "waiting": 2,
        "slots": 16,
        "failures": 0,
        "last_failure": None,
    }


def test_after_a_failure_of_the_engine_health_says_so() -> None:
    service = BusyService()
    service.load = replace(STATUS, failures=1, last_failure="out of memory")
    answer = client(service).get("/health").json()
    assert (answer["status"], answer["failures"], answer["last_failure"]) == ("ok", 1, "out of memory")


def test_metrics_report_the_services_counters() -> None:
    found = numbers(client(BusyService()))
    assert {name: value for name, value in found.items() if "{" not in name and "seconds" not in name} == {
        "mlx_suite_prompt_tokens_total": "100.0",
        "mlx_suite_cached_tokens_total": "70.0",
        "mlx_suite_generated_tokens_total": "40.0",
        "mlx_suite_failures_total": "0.0",
        "mlx_suite_running": "3.0",
        "mlx_suite_waiting": "2.0",
        "mlx_suite_slots": "16.0",
        "mlx_suite_kv_bytes": "4096.0",
        "mlx_suite_prefix_bytes": "512.0",
    }


def test_requests_are_counted_by_route_and_status() -> None:
    http = client(ScriptedService())
    sent: dict[str, Any] = {"model": "tiny-llama3", "messages": [{"role": "user", "content": "Hi"}]}
    http.post("/api/chat", json=sent)
    http.post("/api/chat", json={"model": "gpt-9", "messages": sent["messages"]})
    http.get("/nothing/here")
    found = {name: value for name, value in numbers(http).items() if name.startswith("mlx_suite_http_requests_total")}
    assert found == {
        'mlx_suite_http_requests_total{route="/api/chat",status="200"}': "1.0",
        'mlx_suite_http_requests_total{route="/api/chat",status="404"}': "1.0",
        'mlx_suite_http_requests_total{route="other",status="404"}': "1.0",
    }


def test_the_first_token_and_the_end_of_a_generation_are_measured() -> None:
    http = client(ScriptedService(Script("Hello."), Script("Hello.", fails_after=1)))
    sent = {"model": "tiny-llama3", "prompt": "Hi", "stream": False}
    assert [http.post("/api/generate", json=sent).status_code for _ in range(2)] == [200, 500]
    found = numbers(http)
    assert found["mlx_suite_time_to_first_token_seconds_count"] == "2.0"
    assert found["mlx_suite_generation_seconds_count"] == "1.0"
