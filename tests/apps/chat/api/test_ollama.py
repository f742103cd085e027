"""Ollama's API: lines of streams, whole answers, and what a request means."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from mlx_suite.engine import Sampling
from mlx_suite.serving.chat import ChatMessage, ReasoningDelta, TextDelta, Tool, ToolCall, ToolCallDelta
from mlx_suite.serving.service import EngineFailure
from mlx_suite_apps.chat.api import ollama
from tests.apps.chat.api.live_server import secured_app
from tests.apps.chat.api.scripted_chat import STARTED, ScriptedChat, ended
from tests.apps.chat.api.scripted_service import Script, ScriptedService

HI = [{"role": "user", "content": "Hi"}]
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "of a town", "parameters": {"type": "object"}},
}


def text(words: str) -> TextDelta:
    return TextDelta(choice=0, text=words)


def call(name: str, arguments: str, index: int = 0) -> ToolCallDelta:
    return ToolCallDelta(choice=0, index=index, call=ToolCall(id="c" if name else "", name=name, arguments=arguments))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Answers requests with these events."""

    def answer(*events: Any) -> ScriptedChat:
        chat = ScriptedChat(events)
        monkeypatch.setattr(ollama, "start_chat", chat)
        return chat

    return answer


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService(Script("Hello there."))


@pytest.fixture
def http(service: ScriptedService) -> TestClient:
    return TestClient(secured_app(service), base_url="http://127.0.0.1")


def lines(answer: Any) -> list[dict[str, Any]]:
    """The lines of a stream, without the times that differ from run to run."""
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [untimed(json.loads(line)) for line in answer.text.splitlines()]


def untimed(line: dict[str, Any]) -> dict[str, Any]:
    assert line.pop("created_at", "2").startswith("2")
    durations = [line.pop(name) for name in list(line) if name.endswith("_duration")]
    assert all(isinstance(each, int) and each >= 0 for each in durations)
    return line


END = {"model": "tiny-llama3", "done": True, "done_reason": "stop", "prompt_eval_count": 20, "eval_count": 5}


class TestChat:
    def test_a_chat_streams_by_default(self, http: TestClient, script: Any) -> None:
        script(STARTED, text("Hel"), text(""), text("lo"), ended())
        assert lines(http.post("/api/chat", json={"model": "tiny-llama3", "messages": HI})) == [
            {"model": "tiny-llama3", "message": {"role": "assistant", "content": "Hel"}, "done": False},
            {"model": "tiny-llama3", "message": {"role": "assistant", "content": "lo"}, "done": False},
            {"message": {"role": "assistant", "content": ""}, **END},
        ]

    def test_a_whole_answer_holds_text_thoughts_and_calls(self, http: TestClient, script: Any) -> None:
        script(
            STARTED,
            ReasoningDelta(choice=0, text="Hmm"),
            text("Look"),
            call("weather", ""),
            call("", '{"town": "Bern"}'),
            call("time", "{}", index=1),
            ended(),
        )
        answer = http.post("/api/chat", json={"model": "tiny-llama3", "messages": HI, "stream": False})
        assert untimed(answer.json()) == {
            "message": {
                "role": "assistant",
                "content": "Look",
                "thinking": "Hmm",
                "tool_calls": [
                    {"function": {"index": 0, "name": "weather", "arguments": {"town": "Bern"}}},
                    {"function": {"index": 1, "name": "time", "arguments": {}}},
                ],
            },
            **END,
        }

    def test_a_call_is_one_line_of_a_stream(self, http: TestClient, script: Any) -> None:
        script(STARTED, call("weather", '{"town":'), call("", ' "Bern"}'), ended())
        first, last = lines(http.post("/api/chat", json={"model": "tiny-llama3", "messages": HI}))
        assert first["message"]["tool_calls"] == [
            {"function": {"index": 0, "name": "weather", "arguments": {"town": "Bern"}}}
        ]
        assert last["done_reason"] == "stop"

    def test_a_call_that_was_cut_off_is_left_out(self, http: TestClient, script: Any) -> None:
        script(STARTED, call("weather", '{"town": "Be'), ended("limit"))
        [last] = lines(http.post("/api/chat", json={"model": "tiny-llama3", "messages": HI}))
        assert last["done_reason"] == "length"

    def test_thoughts_are_left_out_if_they_are_not_wanted(self, http: TestClient, script: Any) -> None:
        script(STARTED, ReasoningDelta(choice=0, text="Hmm"), text("Yes"), ended())
        sent = {"model": "tiny-llama3", "messages": HI, "stream": False, "think": False}
        assert http.post("/api/chat", json=sent).json()["message"] == {"role": "assistant", "content": "Yes"}

    @pytest.mark.parametrize(
        ("think", "variables"),
        [(True, {"enable_thinking": True}), (False, {"enable_thinking": False}), ("low", {"enable_thinking": True})],
    )
    def test_think_sets_the_template_s_variable(
        self, http: TestClient, script: Any, think: Any, variables: Any
    ) -> None:
        chat = script(STARTED, ended())
        http.post("/api/chat", json={"model": "tiny-llama3", "messages": HI, "think": think})
        http.post("/api/chat", json={"model": "tiny-llama3", "messages": HI})
        assert [request.variables for request in chat.requests] == [variables, {}]

    def test_a_failure_after_the_start_is_a_line(self, http: TestClient, script: Any) -> None:
        chat = script(STARTED, text("Hel"), EngineFailure("out of memory"))
        assert lines(http.post("/api/chat", json={"model": "tiny-llama3", "messages": HI}))[-1] == {
            "error": "the engine failed on this request; others are not affected, and it may be sent again"
        }
        assert chat.cancelled == 1

    def test_every_option_reaches_the_chat(self, http: TestClient, script: Any) -> None:
        chat = script(STARTED, ended())
        options = {
            "num_predict": 9,
            "temperature": 0.5,
            "top_k": 3,
            "top_p": 0.75,
            "min_p": 0.25,
            "seed": 7,
            "stop": ["END"],
            "repeat_penalty": 1.5,
            "presence_penalty": 0.5,
            "frequency_penalty": -0.5,
            "num_ctx": 512,
            "num_gpu": 99,
        }
        sent = {"model": "tiny-llama3", "messages": HI, "options": options, "format": {"type": "integer"}}
        http.post("/api/chat", json={**sent, "tools": [WEATHER]})
        [request] = chat.requests
        assert request.sampling == Sampling(
            temperature=0.5,
            top_k=3,
            top_p=0.75,
            min_p=0.25,
            repetition_penalty=1.5,
            presence_penalty=0.5,
            frequency_penalty=-0.5,
        )
        assert (request.limit, request.seed, request.stop_texts) == (9, 7, ("END",))
        assert request.schema == {"type": "integer"}
        assert request.tools == (Tool(name="weather", description="of a town", parameters={"type": "object"}),)

    def test_without_options_the_defaults_are_ollamas(self, http: TestClient, script: Any) -> None:
        chat = script(STARTED, ended())
        http.post("/api/chat", json={"model": "tiny-llama3:latest", "messages": HI, "format": "json"})
        [request] = chat.requests
        assert request.model == "tiny-llama3"
        assert request.sampling == Sampling(temperature=0.8, top_k=40, top_p=0.9)
        assert (request.limit, request.seed, request.schema) == (None, None, {})

    def test_results_of_tools_name_the_calls_that_they_answer(self, http: TestClient, script: Any) -> None:
        chat = script(STARTED, ended())
        calls = [{"function": {"name": name, "arguments": {"n": 1}}} for name in ("weather", "time")]
        turns = [
            *HI,
            {"role": "assistant", "content": "", "tool_calls": calls},
            {"role": "tool", "content": "noon", "tool_name": "time"},
            {"role": "tool", "content": "sunny"},
        ]
        http.post("/api/chat", json={"model": "tiny-llama3", "messages": turns})
        assert chat.requests[0].messages == (
            ChatMessage(role="user", content="Hi"),
            ChatMessage(
                role="assistant",
                tool_calls=(
                    ToolCall(id="call_0", name="weather", arguments='{"n": 1}'),
                    ToolCall(id="call_1", name="time", arguments='{"n": 1}'),
                ),
            ),
            ChatMessage(role="tool", content="noon", tool_call_id="call_1"),
            ChatMessage(role="tool", content="sunny", tool_call_id="call_0"),
        )

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"options": {"num_ctx": 513}}, "options.num_ctx is 513, and the context of tiny-llama3 is 512"),
            ({"options": {"stop": [""]}}, "options.stop: a stop text is empty"),
            ({"options": {"temperature": -1}}, "options.temperature: Input should be greater than or equal to 0"),
            (
                {"messages": [{"role": "user", "content": "?", "images": ["aGk="]}]},
                "images are not supported, the model reads text only",
            ),
        ],
    )
    def test_a_wrong_field_is_named(self, http: TestClient, fields: Any, message: str) -> None:
        answer = http.post("/api/chat", json={"model": "tiny-llama3", "messages": HI, **fields})
        assert (answer.status_code, answer.json()) == (400, {"error": message})


class TestGenerate:
    def test_a_prompt_and_a_system_text_become_a_chat(self, http: TestClient, script: Any) -> None:
        chat = script(STARTED, text("Yes"), ended())
        sent = {"model": "tiny-llama3", "prompt": "Well?", "system": "Be brief."}
        assert lines(http.post("/api/generate", json=sent)) == [
            {"model": "tiny-llama3", "response": "Yes", "done": False},
            {"response": "", **END},
        ]
        assert chat.requests[0].messages == (
            ChatMessage(role="system", content="Be brief."),
            ChatMessage(role="user", content="Well?"),
        )

    def test_a_raw_prompt_is_continued_without_the_template(self, http: TestClient, service: ScriptedService) -> None:
        sent = {"model": "tiny-llama3", "prompt": "1 + 1 =", "raw": True, "stream": False}
        answer = untimed(http.post("/api/generate", json={**sent, "options": {"stop": " there"}}).json())
        chat = service.models["tiny-llama3"].chat
        [generation] = service.generations
        assert chat.tokenizer.decode(generation.prompt, skip_special=False) == "<|begin_of_text|>1 + 1 ="
        assert answer["response"] == "Hello"
        assert generation.stop == frozenset(chat.stop_ids)

    def test_no_prompt_asks_whether_the_model_is_loaded(self, http: TestClient) -> None:
        answer = http.post("/api/generate", json={"model": "tiny-llama3"})
        assert untimed(answer.json()) == {"model": "tiny-llama3", "response": "", "done": True, "done_reason": "load"}

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"suffix": "end"}, "suffix is not supported: send the prompt in full, or use /api/chat"),
            ({"context": [1, 2]}, "context is not supported: send the prompt in full, or use /api/chat"),
            ({"raw": True, "format": "json"}, "format needs the chat template: leave out raw"),
            ({"raw": True, "system": "Be brief."}, "system needs the chat template: leave out raw"),
        ],
    )
    def test_a_field_that_would_change_the_prompt_is_named(self, http: TestClient, fields: Any, message: str) -> None:
        answer = http.post("/api/generate", json={"model": "tiny-llama3", "prompt": "Hi", **fields})
        assert (answer.status_code, answer.json()) == (400, {"error": message})
