"""OpenAI's official client against tiny-llama3 itself."""

import json
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.apps.chat.api.openai_server import client_of
from tests.serving.conftest import make_service

MAY: Any = [{"role": "user", "content": "Which month comes before May?"}]
WAY = {
    "type": "object",
    "properties": {"way": {"enum": ["left", "right"]}},
    "required": ["way"],
    "additionalProperties": False,
}
TOOLS: Any = [{"type": "function", "function": {"name": "turn", "parameters": WAY}}]


@pytest.fixture(scope="module")
def client() -> Iterator[OpenAI]:
    service = make_service("tiny-llama3")
    with client_of(service) as made:
        yield made
    service.worker.close()


def test_the_model_answers_in_every_protocol_of_openai(client: OpenAI) -> None:
    chat = client.chat.completions.create(model="tiny-llama3", messages=MAY, temperature=0)
    response = client.responses.create(model="tiny-llama3", input="Which month comes before May?", temperature=0)
    assert chat.choices[0].message.content == "The month before May is April."
    assert response.output_text == "The month before May is April."


def test_a_stream_has_the_text_of_the_whole_response(client: OpenAI) -> None:
    stream = client.chat.completions.create(model="tiny-llama3", messages=MAY, temperature=0, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "The month before May is April."


def test_the_next_turn_finds_the_last_one_in_the_prefix_cache(client: OpenAI) -> None:
    first = client.responses.create(model="tiny-llama3", input="Name a drink.", temperature=0)
    second = client.responses.create(
        model="tiny-llama3", input="Name a fruit.", previous_response_id=first.id, temperature=0
    )
    assert first.usage is not None and second.usage is not None
    assert second.usage.input_tokens_details.cached_tokens >= first.usage.total_tokens - 1


def test_a_seed_repeats_a_response_and_its_choices(client: OpenAI) -> None:
    def texts(seed: int) -> list[str | None]:
        completion = client.chat.completions.create(model="tiny-llama3", messages=MAY, seed=seed, n=3, max_tokens=12)
        return [choice.message.content for choice in completion.choices]

    assert texts(7) == texts(7)


class Place(BaseModel):
    """What a response must be."""

    size: Literal["small", "large"]
    capital: bool


def test_a_schema_is_kept_at_any_temperature(client: OpenAI) -> None:
    completion = client.chat.completions.parse(
        model="tiny-llama3", messages=MAY, temperature=1.5, seed=1, max_tokens=100, response_format=Place
    )
    assert completion.choices[0].finish_reason == "stop"
    assert isinstance(completion.choices[0].message.parsed, Place)


def test_a_required_tool_is_called_with_arguments_of_its_schema(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model="tiny-llama3", messages=MAY, tools=TOOLS, tool_choice="required", seed=3, max_tokens=100
    )
    [call] = completion.choices[0].message.tool_calls or []
    assert call.type == "function" and call.function.name == "turn"
    assert json.loads(call.function.arguments) in ({"way": "left"}, {"way": "right"})


def test_logprobs_of_greedy_text_are_those_of_the_most_probable_tokens(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model="tiny-llama3", messages=MAY, temperature=0, logprobs=True, top_logprobs=3
    )
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert "".join(entry.token for entry in logprobs.content) == "The month before May is April."
    for entry in logprobs.content:
        assert entry.top_logprobs[0].token == entry.token
        assert entry.top_logprobs[0].logprob == entry.logprob


def test_embeddings_have_length_one_and_depend_on_the_text(client: OpenAI) -> None:
    first, second, again = client.embeddings.create(model="tiny-llama3", input=["tea", "seven", "tea"]).data
    assert sum(value * value for value in first.embedding) == pytest.approx(1.0, abs=1e-4)
    assert first.embedding == pytest.approx(again.embedding, abs=1e-5)
    assert first.embedding != pytest.approx(second.embedding, abs=1e-2)


def test_a_completion_continues_its_text(client: OpenAI) -> None:
    completion = client.completions.create(model="tiny-llama3", prompt="12 plus 30 is", temperature=0, max_tokens=8)
    assert completion.usage is not None and completion.usage.completion_tokens <= 8
    assert completion.choices[0].text
