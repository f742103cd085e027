"""The responses API, asked for by OpenAI's official client."""

import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from mlx_suite.serving.chat import ChatMessage, ReasoningDelta, TextDelta
from mlx_suite_apps.chat.api import responses
from mlx_suite_apps.chat.api.response_store import ResponseStore, StoredResponse
from tests.apps.chat.api.openai_server import CALL, LOOKUP, client_of
from tests.apps.chat.api.scripted_chat import STARTED, ScriptedChat, ended
from tests.apps.chat.api.scripted_service import Script, ScriptedService, chat_model

TOOLS: Any = [{"type": "function", **LOOKUP}]


def prompt_of(service: ScriptedService) -> str:
    """The last prompt, with special tokens shown."""
    return chat_model().tokenizer.decode(service.generations[-1].prompt, skip_special=False)


def turn(role: str, text: str) -> str:
    """A turn as the template writes it."""
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"


def test_a_response_has_text_status_and_usage() -> None:
    with client_of(ScriptedService(Script("Hello there.", cached=5))) as client:
        response = client.responses.create(model="tiny-llama3", input="Hi", metadata={"a": "b"})
    assert (response.output_text, response.status, response.model) == ("Hello there.", "completed", "tiny-llama3")
    assert response.metadata == {"a": "b"}
    usage = response.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.input_tokens_details.cached_tokens) == (12, 4, 5)


def test_the_events_of_a_stream_are_numbered_and_in_order() -> None:
    with client_of(ScriptedService()) as client:
        events = list(client.responses.create(model="default", input="Hi", stream=True))
    assert [event.sequence_number for event in events] == list(range(11))
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    last = events[-1]
    assert last.type == "response.completed" and last.response.output_text == "Hello there."


def test_the_clients_own_accumulator_follows_a_stream() -> None:
    with (
        client_of(ScriptedService()) as client,
        client.responses.stream(model="default", input="Hi") as stream,
    ):
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        assert snapshots == ["Hello", "Hello there", "Hello there."]
        assert stream.get_final_response().output_text == "Hello there."


def test_instructions_are_a_system_turn_and_items_are_turns() -> None:
    service = ScriptedService()
    items: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "One?"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Two."}]},
        {"role": "user", "content": "Three?"},
    ]
    with client_of(service) as client:
        client.responses.create(model="default", instructions="Count.", input=items)
    turns = turn("system", "Count.") + turn("user", "One?") + turn("assistant", "Two.") + turn("user", "Three?")
    assert turns in prompt_of(service)


def test_a_response_continues_an_earlier_one_without_its_instructions() -> None:
    service = ScriptedService(Script("Red."), Script("Because."))
    with client_of(service) as client:
        first = client.responses.create(model="default", input="A colour?", instructions="Be brief.")
        second = client.responses.create(model="default", input="Why?", previous_response_id=first.id)
        assert turn("user", "A colour?") + turn("assistant", "Red.") + turn("user", "Why?") in prompt_of(service)
        assert "Be brief." not in prompt_of(service)
        assert second.previous_response_id == first.id
        client.responses.create(model="default", input="Sure?", previous_response_id=second.id)
    assert turn("user", "Why?") + turn("assistant", "Because.") + turn("user", "Sure?") in prompt_of(service)


def test_a_streamed_response_can_be_continued_as_soon_as_it_is_complete() -> None:
    service = ScriptedService(Script("Red."), Script("Because."))
    with client_of(service) as client:
        for event in client.responses.create(model="default", input="A colour?", stream=True):
            if event.type == "response.completed":
                client.responses.create(model="default", input="Why?", previous_response_id=event.response.id)
    assert turn("assistant", "Red.") + turn("user", "Why?") in prompt_of(service)


def test_a_stored_response_is_fetched_and_deleted() -> None:
    with client_of(ScriptedService()) as client:
        response = client.responses.create(model="default", input="Hi")
        assert client.responses.retrieve(response.id).output_text == "Hello there."
        client.responses.delete(response.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(response.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.delete(response.id)
        with pytest.raises(openai.BadRequestError) as raised:
            client.responses.create(model="default", input="Hi", previous_response_id=response.id)
    assert raised.value.param == "previous_response_id"


def test_a_response_that_is_not_to_be_stored_is_not() -> None:
    with client_of(ScriptedService()) as client:
        response = client.responses.create(model="default", input="Hi", store=False)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(response.id)


def test_a_function_is_called_and_its_output_is_answered() -> None:
    service = ScriptedService(Script(CALL), Script("It rains."))
    with client_of(service) as client:
        asked = client.responses.create(model="default", input="Weather?", tools=TOOLS)
        [call] = asked.output
        assert call.type == "function_call" and (call.name, call.status) == ("lookup", "completed")
        assert json.loads(call.arguments) == {"city": "Paris"}
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain, 12 degrees"}
        answered = client.responses.create(model="default", input=[output], tools=TOOLS, previous_response_id=asked.id)
        by_continuing = prompt_of(service)
        items: Any = [{"role": "user", "content": "Weather?"}, call.to_dict(), output]
        client.responses.create(model="default", input=items, tools=TOOLS)
    assert answered.output_text == "It rains."
    assert '"Paris"' in by_continuing and "rain, 12 degrees" in by_continuing
    assert prompt_of(service) == by_continuing


def test_a_streamed_call_is_put_together_by_the_client() -> None:
    with (
        client_of(ScriptedService(Script(CALL))) as client,
        client.responses.stream(model="default", input="Weather?", tools=TOOLS) as stream,
    ):
        kinds = [event.type for event in stream]
        [call] = stream.get_final_response().output
    assert call.type == "function_call" and json.loads(call.arguments) == {"city": "Paris"}
    assert kinds[2:4] == ["response.output_item.added", "response.function_call_arguments.delta"]
    assert kinds[-3:] == ["response.function_call_arguments.done", "response.output_item.done", "response.completed"]


def test_reasoning_is_an_item_before_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = ScriptedChat(
        (STARTED, ReasoningDelta(choice=0, text="Hm."), TextDelta(choice=0, text="Four."), ended(tokens=6))
    )
    monkeypatch.setattr(responses, "start_chat", chat)
    with (
        client_of(ScriptedService()) as client,
        client.responses.stream(model="default", input="2 + 2?") as stream,
    ):
        deltas = [event.delta for event in stream if event.type == "response.reasoning_text.delta"]
        reasoning, message = stream.get_final_response().output
    assert deltas == ["Hm."]
    assert reasoning.type == "reasoning" and reasoning.content is not None and reasoning.content[0].text == "Hm."
    assert message.type == "message" and message.content[0].type == "output_text"
    assert message.content[0].text == "Four."


def test_a_response_that_was_cut_off_is_incomplete() -> None:
    with client_of(ScriptedService(Script("One two three four"))) as client:
        response = client.responses.create(model="default", input="Count.", max_output_tokens=2)
        events = list(client.responses.create(model="default", input="Count.", max_output_tokens=2, stream=True))
    assert response.status == "incomplete" and response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[0].type == "message" and response.output[0].status == "incomplete"
    assert events[-1].type == "response.incomplete"


def test_logprobs_are_reported_where_they_are_included() -> None:
    with client_of(ScriptedService()) as client:
        response = client.responses.create(
            model="default", input="Hi", include=["message.output_text.logprobs"], top_logprobs=2
        )
    message = response.output[0]
    assert message.type == "message" and message.content[0].type == "output_text"
    logprobs = message.content[0].logprobs
    assert logprobs is not None and [each.token for each in logprobs] == ["Hello", " there", "."]
    assert len(logprobs[0].top_logprobs) == 2


class Place(BaseModel):
    """What a response must be."""

    city: str


def test_a_response_is_constrained_to_a_schema_and_parsed_by_the_client() -> None:
    service = ScriptedService(Script('{"city": "Oslo"}'))
    with client_of(service) as client:
        response = client.responses.parse(model="default", input="Where?", text_format=Place)
    assert response.output_parsed == Place(city="Oslo")
    assert service.generations[0].constraint is not None


def test_a_failure_inside_a_stream_is_an_error_and_a_failed_response() -> None:
    with client_of(ScriptedService(Script("Hello there.", fails_after=1))) as client:
        events = list(client.responses.create(model="default", input="Hi", stream=True))
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    assert events[-1].type == "response.failed" and events[-1].response.status == "failed"


@pytest.mark.parametrize(
    ("param", "wrong"),
    [
        ("background", {"background": True}),
        ("conversation", {"conversation": "conv_1"}),
        ("input", {"input": []}),
        ("input[0].type", {"input": [{"type": "computer_call"}]}),
        ("input[0].content[0]", {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
        ("input[0].role", {"input": [{"role": "robot", "content": "Hi"}]}),
        ("input[0].call_id", {"input": [{"type": "function_call_output", "output": "x"}]}),
        ("tools[0].type", {"tools": [{"type": "web_search"}]}),
        ("top_logprobs", {"top_logprobs": 21}),
        ("max_output_tokens", {"max_output_tokens": -1}),
    ],
)
def test_what_a_response_cannot_do_is_refused(param: str, wrong: Any) -> None:
    with client_of(ScriptedService()) as client, pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="default", **{"input": "Hi", **wrong})
    assert raised.value.param == param


def stored(name: str, text: str) -> StoredResponse:
    return StoredResponse(body={"id": name}, messages=(ChatMessage(role="user", content=text),))


def test_the_oldest_responses_are_dropped_when_there_are_too_many() -> None:
    store = ResponseStore(max_responses=2)
    for name in ("a", "b", "c"):
        store.add(stored(name, "Hi"))
    assert store.get("a") is None and store.get("b") is not None and store.get("c") is not None


def test_the_oldest_responses_are_dropped_when_they_are_too_long_together() -> None:
    store = ResponseStore(max_characters=10)
    store.add(stored("a", "12345"))
    store.add(stored("b", "12345"))
    assert store.delete("a")
    store.add(stored("c", "12345"))
    assert store.get("b") is not None
    store.add(stored("d", "1"))
    assert store.get("b") is None and store.get("c") is not None and store.get("d") is not None
