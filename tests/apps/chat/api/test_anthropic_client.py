"""Anthropic's official client against a running server."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from mlx_suite_apps.chat.api.settings import ServerSettings
from tests.apps.chat.api.live_server import secured_app, serving
from tests.apps.chat.api.scripted_service import Script, ScriptedService, queue_full


@pytest.fixture(scope="module")
def live() -> Iterator[tuple[ScriptedService, str]]:
    """A service that answers in turn, and the address of a server with the key `secret`."""
    service = ScriptedService()
    with serving(secured_app(service, ServerSettings(api_key="secret"))) as url:
        yield service, url


@pytest.fixture
def client(live: tuple[ScriptedService, str]) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=live[1], api_key="secret", max_retries=0)


HI: Any = [{"role": "user", "content": "Hi"}]


def test_a_message(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model="tiny-llama3", max_tokens=50, messages=HI)
    assert isinstance(message.content[0], anthropic.types.TextBlock)
    assert message.content[0].text == "Hello there."
    assert message.stop_reason == "end_turn"
    assert message._request_id is not None and message._request_id.startswith("req_")


def test_a_stream(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model="tiny-llama3", max_tokens=50, messages=HI) as stream:
        assert "".join(stream.text_stream) == "Hello there."
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens > 1


def test_the_count_of_a_prompt_is_what_a_message_uses(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model="tiny-llama3", messages=HI)
    message = client.messages.create(model="tiny-llama3", max_tokens=3, messages=HI)
    assert counted.input_tokens == message.usage.input_tokens > 0
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 3)


def test_a_wrong_key(live: tuple[ScriptedService, str]) -> None:
    stranger = anthropic.Anthropic(base_url=live[1], api_key="wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError, match="the API key is wrong"):
        stranger.messages.create(model="tiny-llama3", max_tokens=3, messages=HI)


def test_an_unknown_model(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="no model is served as 'gpt-9'") as error:
        client.messages.create(model="gpt-9", max_tokens=3, messages=HI)
    assert error.value.type == "not_found_error"


def test_a_prompt_that_exceeds_the_context(client: anthropic.Anthropic) -> None:
    long: Any = [{"role": "user", "content": "word " * 2000}]
    with pytest.raises(anthropic.BadRequestError, match="maximum context length is 512 tokens"):
        client.messages.create(model="tiny-llama3", max_tokens=5, messages=long)


def test_a_full_queue() -> None:
    with serving(secured_app(ScriptedService(Script(refusal=queue_full())))) as url:
        client = anthropic.Anthropic(base_url=url, api_key="any", max_retries=0)
        with pytest.raises(anthropic.RateLimitError) as error:
            client.messages.create(model="tiny-llama3", max_tokens=3, messages=HI)
    assert error.value.response.headers["retry-after"] == "3"
    assert error.value.type == "rate_limit_error"
