"""Mistakes of OpenAI's clients: each gets status 400 and the parameter at fault, never a traceback."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mlx_suite.text import TemplateRefusal
from mlx_suite_apps.chat.api.app import create_app
from tests.apps.chat.api.openai_server import HI
from tests.apps.chat.api.scripted_service import ScriptedService

TOOL: Any = {"type": "function", "function": {"name": "f"}}


@pytest.fixture
def client() -> TestClient:
    return TestClient(create_app(ScriptedService()), raise_server_exceptions=False)


def error_of(client: TestClient, body: Any, path: str = "/v1/chat/completions") -> dict[str, Any]:
    """The error that a body is refused with."""
    response = client.post(path, json=body)
    assert response.status_code == 400, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


@pytest.mark.parametrize(
    ("param", "wrong"),
    [
        ("temperature", {"temperature": -0.1}),
        ("temperature", {"temperature": "1"}),
        ("temperature", {"temperature": True}),
        ("top_p", {"top_p": 0}),
        ("top_p", {"top_p": 1.1}),
        ("min_p", {"min_p": 2}),
        ("top_k", {"top_k": 1.5}),
        ("repetition_penalty", {"repetition_penalty": 0}),
        ("presence_penalty", {"presence_penalty": 2.1}),
        ("frequency_penalty", {"frequency_penalty": -2.1}),
        ("n", {"n": 0}),
        ("n", {"n": 17}),
        ("max_tokens", {"max_tokens": -1}),
        ("max_completion_tokens", {"max_completion_tokens": 0}),
        ("seed", {"seed": 2**63}),
        ("seed", {"seed": "seven"}),
        ("stop", {"stop": [""]}),
        ("stop", {"stop": ["x"] * 17}),
        ("stop", {"stop": {"text": "x"}}),
        ("logit_bias", {"logit_bias": {"the": 1}}),
        ("logit_bias", {"logit_bias": {"2048": 1}}),
        ("logit_bias", {"logit_bias": {"-1": 1}}),
        ("logit_bias", {"logit_bias": {"17": 101}}),
        ("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
        ("top_logprobs", {"top_logprobs": 2}),
        ("stream", {"stream": "yes"}),
        ("audio", {"audio": {"voice": "alloy"}}),
        ("modalities", {"modalities": ["text", "audio"]}),
        ("functions", {"functions": [{"name": "f"}]}),
        ("messages", {"messages": []}),
        ("messages", {"messages": "Hi"}),
        ("messages[0].content", {"messages": [{"role": "user", "content": 5}]}),
        ("messages[0].content[0]", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        ("messages[0].role", {"messages": [{"role": "robot", "content": "Hi"}]}),
        ("messages[1].tool_call_id", {"messages": [*HI, {"role": "tool", "content": "4"}]}),
        (
            "messages[0].tool_calls[0].function.arguments",
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "[1"}}],
                    }
                ]
            },
        ),
        ("tools[0].type", {"tools": [{"type": "web_search"}]}),
        ("tools[0].function.name", {"tools": [{"type": "function", "function": {"name": "a b"}}]}),
        ("tools[1].function.name", {"tools": [TOOL, TOOL]}),
        ("tool_choice", {"tool_choice": "required"}),
        ("tool_choice", {"tool_choice": "often"}),
        ("tool_choice", {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}),
        ("response_format.type", {"response_format": {"type": "xml"}}),
        ("response_format.json_schema", {"response_format": {"type": "json_schema"}}),
    ],
)
def test_a_wrong_parameter_is_named(client: TestClient, param: str, wrong: Any) -> None:
    error = error_of(client, {"messages": HI, **wrong})
    assert error["param"] == param


def test_all_wrong_types_are_listed_at_once(client: TestClient) -> None:
    message = error_of(client, {"messages": HI, "n": "1", "top_p": None, "seed": []})["message"]
    assert message == "seed: Input should be a valid integer; n: Input should be a valid integer"


def test_unknown_fields_and_null_are_ignored(client: TestClient) -> None:
    body = {
        "messages": HI,
        "user": "me",
        "metadata": {},
        "store": False,
        "novelty": [1],
        "temperature": None,
        "stop": None,
    }
    response = client.post("/v1/chat/completions", json=body)
    assert response.json()["choices"][0]["message"]["content"] == "Hello there."


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "must be a JSON object"),
        (b"5", "must be a JSON object"),
        (b"[]", "must be a JSON object"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"temperature": NaN}', "NaN is not a JSON value"),
        (b'{"temperature": -Infinity}', "-Infinity is not a JSON value"),
        (b'{"temperature": 1e999}', "a number is too large"),
        (b"1" * 5000, "thousands of digits"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "half a surrogate pair"),
        (b'{"\\udfff": 1}', "half a surrogate pair"),
        (b"[" * 100_000, "nested more than 64 deep"),
        (b"[" * 100 + b"]" * 100, "nested more than 64 deep"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"])
def test_a_body_that_is_no_strict_json_is_refused(client: TestClient, path: str, body: bytes, why: str) -> None:
    response = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert why in response.json()["error"]["message"]


def test_a_body_of_another_type_is_refused(client: TestClient) -> None:
    body = json.dumps({"messages": HI})
    response = client.post("/v1/chat/completions", content=body, headers={"Content-Type": "text/plain"})
    assert response.status_code == 400
    assert "Content-Type: application/json" in response.json()["error"]["message"]


def test_unknown_paths_and_methods_have_errors_in_openais_form(client: TestClient) -> None:
    missing, wrong = client.get("/v1/nothing"), client.get("/v1/chat/completions")
    assert (missing.status_code, missing.json()["error"]["message"]) == (404, "Not Found")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def test_a_mistake_of_ours_is_an_error_whose_traceback_is_in_the_log_only(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> Any:
        raise KeyError("/home/someone/secret")

    monkeypatch.setattr(ScriptedService, "start", broken)
    response = client.post("/v1/chat/completions", json={"messages": HI})
    assert response.status_code == 500
    assert "secret" not in response.text and "Traceback" not in response.text
    assert caplog.text.count("KeyError: '/home/someone/secret'") == 1


def test_a_file_of_the_server_is_never_named_as_the_parameter(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> Any:
        raise TemplateRefusal("the chat template rejects this", "/models/x/chat_template.jinja", "let roles alternate")

    monkeypatch.setattr(ScriptedService, "start", refuse)
    error = error_of(client, {"messages": HI})
    assert (error["message"], error["param"]) == ("the chat template rejects this: let roles alternate", None)
