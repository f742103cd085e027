"""Anthropic's and Ollama's official clients against tiny-llama3 itself."""

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import ollama
import pytest

from tests.apps.chat.api.live_server import secured_app, serving
from tests.serving.conftest import make_service

QUESTION: Any = [{"role": "user", "content": "Which month comes before May?"}]
ANSWER = "The month before May is April."
GREEDY = {"temperature": 0}
WAY = {
    "type": "object",
    "properties": {"way": {"enum": ["left", "right"]}},
    "required": ["way"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    service = make_service("tiny-llama3")
    with serving(secured_app(service)) as address:
        yield address
    service.worker.close()


@pytest.fixture
def claude(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="any", max_retries=0)


def test_anthropics_client_gets_the_models_answer(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(model="tiny-llama3", max_tokens=50, messages=QUESTION, extra_body=GREEDY)
    [block] = message.content
    assert isinstance(block, anthropic.types.TextBlock)
    assert (block.text, message.stop_reason) == (ANSWER, "end_turn")


def test_a_stop_sequence_ends_the_answer_before_it(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(
        model="tiny-llama3", max_tokens=50, messages=QUESTION, extra_body=GREEDY, stop_sequences=[" May"]
    ) as stream:
        message = stream.get_final_message()
    assert [block.text for block in message.content if block.type == "text"] == ["The month before"]
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", " May")


def test_an_answer_that_was_begun_is_continued(claude: anthropic.Anthropic) -> None:
    begun: Any = [*QUESTION, {"role": "assistant", "content": "The month before May"}]
    message = claude.messages.create(model="tiny-llama3", max_tokens=50, messages=begun, extra_body=GREEDY)
    assert [block.text for block in message.content if block.type == "text"] == [" is April."]


def test_cached_tokens_are_not_counted_as_input(claude: anthropic.Anthropic) -> None:
    counted = claude.messages.count_tokens(model="tiny-llama3", messages=QUESTION).input_tokens
    usages = [
        claude.messages.create(model="tiny-llama3", max_tokens=5, messages=QUESTION, extra_body=GREEDY).usage
        for _ in range(2)
    ]
    assert usages[1].cache_read_input_tokens is not None and usages[1].cache_read_input_tokens > 0
    assert [usage.input_tokens + (usage.cache_read_input_tokens or 0) for usage in usages] == [counted, counted]


def test_a_tool_that_must_be_called_is_called(claude: anthropic.Anthropic) -> None:
    tool: Any = {"name": "turn", "description": "left or right", "input_schema": WAY}
    message = claude.messages.create(
        model="tiny-llama3",
        max_tokens=60,
        messages=[{"role": "user", "content": "Turn left."}],
        tools=[tool],
        tool_choice={"type": "tool", "name": "turn"},
        extra_body=GREEDY,
    )
    [block] = [block for block in message.content if block.type == "tool_use"]
    assert block.name == "turn" and block.input["way"] in ("left", "right")
    assert message.stop_reason == "tool_use"


def test_ollamas_client_gets_the_models_answer(url: str) -> None:
    client = ollama.Client(host=url)
    parts = list(client.chat(model="tiny-llama3", messages=QUESTION, options={"temperature": 0}, stream=True))
    assert "".join(part.message.content or "" for part in parts) == ANSWER
    assert parts[-1].done_reason == "stop"


def test_ollamas_client_gets_json_of_a_schema(url: str) -> None:
    answer = ollama.Client(host=url).generate(
        model="tiny-llama3:latest", prompt="Left or right?", format=WAY, options={"temperature": 0}
    )
    assert answer.response.replace(" ", "") in ('{"way":"left"}', '{"way":"right"}')


def test_health_and_metrics_count_what_was_done(url: str) -> None:
    ollama.Client(host=url).generate(model="tiny-llama3", prompt="1 + 1 =", raw=True, options={"num_predict": 3})
    health, metrics = httpx.get(f"{url}/health").json(), httpx.get(f"{url}/metrics").text
    assert (health["status"], health["models"], health["failures"]) == ("ok", ["tiny-llama3"], 0)
    counts = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert float(counts["mlx_suite_generated_tokens_total"]) >= 3
    assert float(counts["mlx_suite_prompt_tokens_total"]) > 0
