"""Ollama's official client against a running server."""

from collections.abc import Iterator
from datetime import UTC, datetime

import ollama
import pytest

import mlx_suite
from mlx_suite_apps.chat.api.settings import ServerSettings
from tests.apps.chat.api.live_server import secured_app, serving
from tests.apps.chat.api.scripted_service import Script, ScriptedService, queue_full

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a server with the key `secret`."""
    with serving(secured_app(ScriptedService(), ServerSettings(api_key="secret"))) as address:
        yield address


@pytest.fixture
def client(url: str) -> ollama.Client:
    return ollama.Client(host=url, headers={"Authorization": "Bearer secret"})


def test_a_chat(client: ollama.Client) -> None:
    answer = client.chat(model="tiny-llama3:latest", messages=HI)
    assert answer.message.content == "Hello there."
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert (answer.prompt_eval_count or 0) > 0


def test_a_chat_in_a_stream(client: ollama.Client) -> None:
    parts = list(client.chat(model="tiny-llama3", messages=HI, stream=True))
    assert "".join(part.message.content or "" for part in parts) == "Hello there."
    assert [part.done for part in parts[-2:]] == [False, True]


def test_a_generation_that_ends_at_its_limit(client: ollama.Client) -> None:
    answer = client.generate(model="tiny-llama3", prompt="Hi", options={"num_predict": 2})
    assert (answer.done_reason, answer.eval_count) == ("length", 2)
    assert answer.response and "Hello there.".startswith(answer.response)


def test_the_served_models(client: ollama.Client) -> None:
    listed = client.list().models
    assert [model.model for model in listed] == ["tiny-llama3", "tiny-llama3:short"]
    assert listed[0].modified_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert [model.context_length for model in client.ps().models] == [512, 512]


def test_what_is_known_of_a_model(client: ollama.Client) -> None:
    shown = client.show("tiny-llama3:short")
    assert "start_header_id" in (shown.template or "")
    assert shown.capabilities == ["completion"]
    assert shown.details is not None and shown.details.parent_model == "tiny-llama3"


def test_the_version(url: str) -> None:
    answer = ollama.Client(host=url, headers={"X-Api-Key": "secret"})._request_raw("GET", "/api/version")
    assert answer.json() == {"version": mlx_suite.__version__}


def test_an_unknown_model(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="no model is served as 'gpt-9'") as error:
        client.chat(model="gpt-9", messages=HI)
    assert error.value.status_code == 404


def test_a_wrong_key(url: str) -> None:
    with pytest.raises(ollama.ResponseError, match="the API key is wrong") as error:
        ollama.Client(host=url, headers={"Authorization": "Bearer wrong"}).list()
    assert error.value.status_code == 401


def test_a_full_queue() -> None:
    with serving(secured_app(ScriptedService(Script(refusal=queue_full())))) as address:
        with pytest.raises(ollama.ResponseError, match="64 requests are waiting") as error:
            ollama.Client(host=address).chat(model="tiny-llama3", messages=HI)
    assert error.value.status_code == 429
