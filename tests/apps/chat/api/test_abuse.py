"""Requests that follow the OpenAPI document, requests that break it, and nasty values: the server never fails."""

import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode
from starlette.testclient import TestClient

from mlx_suite_apps.chat.api.app import create_app
from tests.apps.chat.api.live_server import secured_app
from tests.apps.chat.api.mutants import VALID, mutants
from tests.apps.chat.api.scripted_service import Script, ScriptedService

LOCAL = "http://127.0.0.1"


class Abuser:
    """Sends requests to a scripted server, and keeps those that it should have answered otherwise."""

    def __init__(self) -> None:
        self.app = secured_app(ScriptedService(Script("Hello there.")))
        self.client = TestClient(self.app, base_url=LOCAL, raise_server_exceptions=False)
        self.statuses: Counter[int] = Counter()
        self.failures: list[str] = []

    def send(self, method: str, path: str, body: Any) -> int:
        """The status of a request whose body is JSON, in ASCII: surrogates are sent as escapes."""
        content = None if method in ("GET", "DELETE") else json.dumps(body).encode()
        answer = self.client.request(method, path, content=content, headers={"Content-Type": "application/json"})
        self.judge(f"{method} {path}", body, answer.status_code, answer.text)
        return answer.status_code

    def judge(self, label: str, body: Any, status: int, text: str) -> None:
        self.statuses[status] += 1
        if status >= 500 or "Traceback" in text or "internal_error" in text:
            self.failures.append(f"{label}: {status} {text[:300]} for {body!r:.700}")

    def send_generated(self, operation: Any, mode: GenerationMode, count: int, changed: int) -> None:
        """Generated requests, and `changed` mutants of each; the same ones in every run."""

        @settings(
            max_examples=count,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def try_each(case: Any) -> None:
            if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
                case.body["model"] = "tiny-llama3"  # an unknown one would end the request early
            answer = case.call(headers={"Host": "127.0.0.1"})
            self.judge(operation.label, case.body, answer.status_code, answer.text)
            if isinstance(case.body, dict):
                for mutant in mutants(case.body, changed, seed=count):
                    self.send("POST", operation.path, mutant)

        try_each()

    def send_document(self, count: int, changed: int) -> None:
        """Requests to every operation of the OpenAPI document, valid and invalid ones."""
        schema = schemathesis.openapi.from_asgi("/openapi.json", self.app, headers={"Host": "127.0.0.1"})
        for result in schema.get_all_operations():
            operation = result.ok()
            if operation.method == "post":
                self.send_generated(operation, GenerationMode.NEGATIVE, count, changed)
            self.send_generated(operation, GenerationMode.POSITIVE, count, changed)

    def send_mutants(self, count: int) -> None:
        """Mutants of a valid request of every protocol."""
        for path, body in VALID.items():
            for mutant in mutants({"model": "tiny-llama3", **body}, count, seed=1):
                self.send("POST", path, mutant)


@pytest.fixture
def abuser(caplog: pytest.LogCaptureFixture) -> Iterator[Abuser]:
    with caplog.at_level(logging.ERROR):
        yield (abuser := Abuser())
    assert abuser.failures == []
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("path", VALID)
def test_the_requests_that_are_mutated_are_valid(abuser: Abuser, path: str) -> None:
    assert abuser.send("POST", path, {"model": "tiny-llama3", **VALID[path]}) == 200


def test_a_nasty_value_anywhere_in_a_request_is_answered_or_refused(abuser: Abuser) -> None:
    abuser.send_mutants(30)
    assert abuser.statuses.total() >= 240
    assert set(abuser.statuses) == {200, 400, 404}


@pytest.mark.slow
def test_requests_made_from_the_document_are_answered_or_refused(abuser: Abuser) -> None:
    abuser.send_document(count=2, changed=8)
    assert abuser.statuses.total() >= 100
    assert set(abuser.statuses) <= {200, 400, 404}


@pytest.mark.slow
def test_thousands_of_requests_are_answered_or_refused(abuser: Abuser) -> None:
    abuser.send_document(count=10, changed=8)
    abuser.send_mutants(300)
    assert abuser.statuses.total() >= 3000
    assert set(abuser.statuses) <= {200, 400, 404, 405}


def test_a_long_value_of_the_wrong_type_in_a_schema_is_refused(abuser: Abuser) -> None:
    schema = {"type": "object", "properties": {"n": "é" * 3000}}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    turns = [{"role": "user", "content": "Hi"}]
    sent = {"model": "tiny-llama3", "messages": turns, "response_format": form}
    assert abuser.send("POST", "/v1/chat/completions", sent) == 400


def test_a_number_that_the_database_cannot_hold_is_refused() -> None:
    app = create_app(ScriptedService())

    @app.get("/number/{number}")
    def find(number: int) -> None:
        sqlite3.connect(":memory:").execute("SELECT ?", (number,))

    client = TestClient(app)
    assert client.get("/number/7").status_code == 200
    answer = client.get("/number/" + "9" * 30)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "a number is too large")
