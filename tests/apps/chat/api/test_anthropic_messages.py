"""Anthropic's Messages API: the events of streams, whole messages, and what a request means."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from mlx_suite.engine import Sampling
from mlx_suite.serving.chat import ChatMessage, ReasoningDelta, TextDelta, Tool, ToolCall, ToolCallDelta
from mlx_suite.serving.service import EngineFailure
from mlx_suite_apps.chat.api import anthropic_messages
from tests.apps.chat.api.live_server import secured_app
from tests.apps.chat.api.scripted_chat import STARTED, ScriptedChat, ended
from tests.apps.chat.api.scripted_service import ScriptedService

WEATHER = {"name": "weather", "description": "of a town", "input_schema": {"type": "object"}}
CALL = {"id": "1", "name": "f", "input": {}}
CALLED = ToolCallDelta(choice=0, index=0, call=ToolCall(id="toolu_1", name="weather", arguments=""))


def arguments(text: str, index: int = 0) -> ToolCallDelta:
    return ToolCallDelta(choice=0, index=index, call=ToolCall(id="", name="", arguments=text))


def text(words: str) -> TextDelta:
    return TextDelta(choice=0, text=words)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Answers requests with these events."""

    def answer(*events: Any) -> ScriptedChat:
        chat = ScriptedChat(events)
        monkeypatch.setattr(anthropic_messages, "start_chat", chat)
        return chat

    return answer


@pytest.fixture
def http() -> TestClient:
    return TestClient(secured_app(ScriptedService()), base_url="http://127.0.0.1")


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny-llama3", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}], **fields}


def events_of(answer: Any) -> list[dict[str, Any]]:
    """The data of server-sent events, whose names are their types."""
    events = []
    for block in answer.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        if "data" in lines:
            events.append(json.loads(lines["data"]))
            assert lines["event"] == events[-1]["type"]
    return events


class TestStreams:
    def test_a_text_is_streamed_in_the_order_of_the_protocol(self, http: TestClient, script: Any) -> None:
        script(STARTED, text("Hel"), text(""), text("lo"), ended(tokens=3))
        answer = http.post("/v1/messages", json=body(stream=True))
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        events = events_of(answer)
        assert events[0]["message"].pop("id").startswith("msg_")
        assert events == [
            {
                "type": "message_start",
                "message": {
                    "type": "message",
                    "role": "assistant",
                    "model": "tiny-llama3",
                    "content": [],
                    "stop_reason": None,
                    "stop_sequence": None,
                    "usage": {
                        "input_tokens": 8,
                        "cache_read_input_tokens": 12,
                        "cache_creation_input_tokens": 0,
                        "output_tokens": 0,
                    },
                },
            },
            {"type": "ping"},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {
                    "input_tokens": 8,
                    "cache_read_input_tokens": 12,
                    "cache_creation_input_tokens": 0,
                    "output_tokens": 3,
                },
            },
            {"type": "message_stop"},
        ]

    def test_reasoning_text_and_calls_are_blocks_of_their_own(self, http: TestClient, script: Any) -> None:
        second = ToolCallDelta(choice=0, index=1, call=ToolCall(id="toolu_2", name="weather", arguments="{}"))
        script(
            STARTED,
            ReasoningDelta(choice=0, text="Hmm"),
            text("Look:"),
            CALLED,
            arguments('{"town":'),
            arguments(' "Bern"}'),
            second,
            ended(),
        )
        events = events_of(http.post("/v1/messages", json=body(stream=True, tools=[WEATHER])))
        seen = [
            (event["type"], event.get("index"), event.get("content_block") or event.get("delta")) for event in events
        ]
        assert seen[2:-2] == [
            ("content_block_start", 0, {"type": "thinking", "thinking": "", "signature": ""}),
            ("content_block_delta", 0, {"type": "thinking_delta", "thinking": "Hmm"}),
            ("content_block_stop", 0, None),
            ("content_block_start", 1, {"type": "text", "text": ""}),
            ("content_block_delta", 1, {"type": "text_delta", "text": "Look:"}),
            ("content_block_stop", 1, None),
            ("content_block_start", 2, {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}),
            ("content_block_delta", 2, {"type": "input_json_delta", "partial_json": '{"town":'}),
            ("content_block_delta", 2, {"type": "input_json_delta", "partial_json": ' "Bern"}'}),
            ("content_block_stop", 2, None),
            ("content_block_start", 3, {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}}),
            ("content_block_delta", 3, {"type": "input_json_delta", "partial_json": "{}"}),
            ("content_block_stop", 3, None),
        ]
        assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}

    def test_a_failure_after_the_start_is_an_event(self, http: TestClient, script: Any) -> None:
        chat = script(STARTED, text("Hel"), EngineFailure("out of memory"))
        answer = http.post("/v1/messages", json=body(stream=True))
        assert events_of(answer)[-1] == {
            "type": "error",
            "error": {
                "type": "api_error",
                "message": "the engine failed on this request; others are not affected, and it may be sent again",
            },
            "request_id": answer.headers["request-id"],
        }
        assert chat.cancelled == 1


class TestMessages:
    def test_the_whole_message_holds_all_blocks(self, http: TestClient, script: Any) -> None:
        script(STARTED, ReasoningDelta(choice=0, text="Hmm"), text("Look"), CALLED, arguments('{"a": 1}'), ended())
        message = http.post("/v1/messages", json=body(tools=[WEATHER])).json()
        assert message["content"] == [
            {"type": "thinking", "thinking": "Hmm", "signature": ""},
            {"type": "text", "text": "Look"},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"a": 1}},
        ]
        assert (message["role"], message["stop_reason"]) == ("assistant", "tool_use")

    def test_reasoning_is_left_out_if_thinking_is_disabled(self, http: TestClient, script: Any) -> None:
        chat = script(STARTED, ReasoningDelta(choice=0, text="Hmm"), text("Yes"), ended())
        message = http.post("/v1/messages", json=body(thinking={"type": "disabled"})).json()
        assert message["content"] == [{"type": "text", "text": "Yes"}]
        assert chat.requests[0].variables == {"enable_thinking": False}

    def test_thinking_may_be_asked_for_or_left_to_the_template(self, http: TestClient, script: Any) -> None:
        chat = script(STARTED, text("Yes"), ended())
        for kind in ("enabled", "adaptive"):
            http.post("/v1/messages", json=body(thinking={"type": kind}))
        assert [request.variables for request in chat.requests] == [{"enable_thinking": True}, {}]

    def test_arguments_that_were_cut_off_are_left_out(self, http: TestClient, script: Any) -> None:
        script(STARTED, CALLED, arguments('{"town": "Be'), ended("limit"))
        message = http.post("/v1/messages", json=body(tools=[WEATHER])).json()
        assert message["content"] == [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}]
        assert message["stop_reason"] == "max_tokens"

    @pytest.mark.parametrize(
        ("end", "reason", "sequence"),
        [
            (ended("stop"), "end_turn", None),
            (ended("stop", stop_text="###"), "stop_sequence", "###"),
            (ended("limit"), "max_tokens", None),
            (ended("context"), "model_context_window_exceeded", None),
        ],
    )
    def test_the_stop_reason_tells_why_the_response_ended(
        self, http: TestClient, script: Any, end: Any, reason: str, sequence: str | None
    ) -> None:
        script(STARTED, text("Yes"), end)
        message = http.post("/v1/messages", json=body()).json()
        assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


class TestRequests:
    def test_every_setting_reaches_the_chat(self, http: TestClient, script: Any) -> None:
        chat = script(STARTED, ended())
        sent = body(temperature=0.5, top_p=0.9, top_k=7, stop_sequences=["END"], system="Be brief.")
        http.post("/v1/messages", json=sent)
        [request] = chat.requests
        assert request.messages == (
            ChatMessage(role="system", content="Be brief."),
            ChatMessage(role="user", content="Hi"),
        )
        assert request.sampling == Sampling(temperature=0.5, top_p=0.9, top_k=7)
        assert (request.limit, request.stop_texts, request.tool_choice) == (50, ("END",), "auto")

    def test_blocks_become_turns_and_results_of_tools_their_own(self, http: TestClient, script: Any) -> None:
        chat = script(STARTED, ended())
        turns = [
            {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "…", "signature": ""},
                    {"type": "text", "text": "Look"},
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"town": "Bern"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sunny"}]},
                    {"type": "text", "text": "Well?"},
                ],
            },
            {"role": "user", "content": "Hm?"},
            {"role": "assistant", "content": "It is"},
        ]
        system = [
            {"type": "text", "text": "One.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Two."},
        ]
        http.post("/v1/messages", json=body(messages=turns, system=system))
        assert chat.requests[0].messages == (
            ChatMessage(role="system", content="One.\nTwo."),
            ChatMessage(role="user", content="A\nB"),
            ChatMessage(
                role="assistant",
                content="Look",
                tool_calls=(ToolCall(id="t1", name="weather", arguments='{"town": "Bern"}'),),
            ),
            ChatMessage(role="tool", content="sunny", tool_call_id="t1"),
            ChatMessage(role="user", content="Well?\nHm?"),
            ChatMessage(role="assistant", content="It is"),
        )

    @pytest.mark.parametrize(
        ("choice", "wanted"),
        [
            ({"type": "auto"}, "auto"),
            ({"type": "any"}, "required"),
            ({"type": "none"}, "none"),
            (
                {"type": "tool", "name": "weather"},
                Tool(name="weather", description="of a town", parameters={"type": "object"}),
            ),
        ],
    )
    def test_tools_and_the_choice_among_them(self, http: TestClient, script: Any, choice: Any, wanted: Any) -> None:
        chat = script(STARTED, ended())
        http.post("/v1/messages", json=body(tools=[WEATHER], tool_choice=choice))
        assert chat.requests[0].tools == (Tool(name="weather", description="of a town", parameters={"type": "object"}),)
        assert chat.requests[0].tool_choice == wanted

    def test_a_schema_of_the_output_reaches_the_chat(self, http: TestClient, script: Any) -> None:
        chat = script(STARTED, ended())
        form = {"type": "json_schema", "schema": {"type": "integer"}}
        http.post("/v1/messages", json=body(output_config={"format": form}))
        assert chat.requests[0].schema == {"type": "integer"}

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"max_tokens": None}, "max_tokens: Input should be a valid integer"),
            ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
            ({"messages": []}, "messages: List should have at least 1 item after validation, not 0"),
            ({"temperature": 2.5}, "temperature: Input should be less than or equal to 2"),
            ({"stop_sequences": [""]}, "stop_sequences: a stop sequence is empty"),
            ({"tool_choice": {"type": "any"}}, "tool_choice: 'any' needs tools"),
            (
                {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "time"}},
                "tool_choice: no tool is named 'time'",
            ),
            (
                {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
                "tools: 'web_search_20250305' runs on Anthropic's servers and is not available here",
            ),
            (
                {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
                "messages[0].content[0]: image blocks are not supported, the model reads text only",
            ),
            (
                {
                    "messages": [
                        {"role": "user", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]}
                    ]
                },
                "messages[0].content[0]: a tool_use block belongs in a turn of the assistant, not of the user",
            ),
        ],
    )
    def test_a_wrong_field_is_named(self, http: TestClient, script: Any, fields: Any, message: str) -> None:
        chat = script(STARTED, ended())
        answer = http.post("/v1/messages", json=body(**fields))
        assert answer.status_code == 400
        assert answer.json()["error"] == {"type": "invalid_request_error", "message": message}
        assert chat.requests == []
