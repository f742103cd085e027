"""Chat completions, asked for by OpenAI's official client."""

import json
import math
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from mlx_suite.serving.chat import ReasoningDelta, TextDelta
from mlx_suite.serving.generation import Token
from mlx_suite_apps.chat.api import openai_chat
from mlx_suite_apps.chat.api.openai_chat import ChatCompletionBody
from tests.apps.chat.api.openai_server import CALL, HI, LOOKUP, client_of
from tests.apps.chat.api.scripted_chat import STARTED, ScriptedChat, ended
from tests.apps.chat.api.scripted_service import Script, ScriptedService, chat_model, queue_full

TOOLS: Any = [{"type": "function", "function": LOOKUP}]


def prompt_of(service: ScriptedService) -> str:
    """The last prompt, with special tokens shown."""
    return chat_model().tokenizer.decode(service.generations[-1].prompt, skip_special=False)


def test_a_chat_completion_has_text_reason_and_usage() -> None:
    service = ScriptedService(Script("Hello there.", cached=5))
    with client_of(service) as client:
        completion = client.chat.completions.create(model="tiny-llama3", messages=HI)
    [choice] = completion.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", "Hello there.", "stop")
    assert (completion.model, completion.object) == ("tiny-llama3", "chat.completion")
    usage = completion.usage
    assert usage is not None and usage.prompt_tokens_details is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (12, 4, 16)
    assert usage.prompt_tokens_details.cached_tokens == 5


def test_a_stream_brings_a_role_then_text_then_the_reason_then_the_usage() -> None:
    with client_of(ScriptedService()) as client:
        stream = client.chat.completions.create(
            model="default", messages=HI, stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert deltas[0].role == "assistant"
    assert [delta.content for delta in deltas] == ["", "Hello", " there", ".", None]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, None, "stop"]
    assert last.choices == [] and last.usage is not None and last.usage.completion_tokens == 4
    assert len({chunk.id for chunk in [*chunks, last]}) == 1


def test_without_being_asked_a_stream_reports_no_usage() -> None:
    with client_of(ScriptedService()) as client:
        chunks = list(client.chat.completions.create(model="default", messages=HI, stream=True))
    assert [chunk.usage for chunk in chunks] == [None] * 5
    assert all(chunk.choices for chunk in chunks)


def test_the_clients_own_accumulator_follows_a_stream() -> None:
    with client_of(ScriptedService()) as client, client.chat.completions.stream(model="default", messages=HI) as stream:
        stream.until_done()
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "Hello there."


def test_each_of_two_choices_has_its_own_text_and_the_prompt_counts_once() -> None:
    with client_of(ScriptedService(Script(texts=("Yes.", "No way.")))) as client:
        completion = client.chat.completions.create(model="default", messages=HI, n=2)
        stream = client.chat.completions.create(model="default", messages=HI, n=2, stream=True)
        parts = [(chunk.choices[0].index, chunk.choices[0].delta.content or "") for chunk in stream]
    assert [choice.message.content for choice in completion.choices] == ["Yes.", "No way."]
    assert completion.usage is not None and completion.usage.prompt_tokens == 12
    assert ["".join(text for index, text in parts if index == choice) for choice in (0, 1)] == ["Yes.", "No way."]


def test_parameters_reach_the_engine() -> None:
    service = ScriptedService()
    with client_of(service) as client:
        client.chat.completions.create(
            model="tiny-llama3:short",
            messages=HI,
            temperature=0.3,
            top_p=0.9,
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            logit_bias={"17": 5},
            seed=42,
            n=3,
            stop=["x", "yz"],
            max_completion_tokens=7,
            extra_body={"top_k": 20, "min_p": 0.1, "repetition_penalty": 1.2},
        )
    [generation] = service.generations
    sampling = generation.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.3, 0.9, 20, 0.1)
    assert (sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty) == (1.2, 0.5, -0.5)
    assert sampling.logit_bias == ((17, 5.0),)
    assert (generation.model, generation.seed, generation.choices) == ("tiny-llama3:short", 42, 3)
    assert (generation.stop_texts, generation.limit) == (("x", "yz"), 7)


def test_without_parameters_the_engine_samples_from_the_models_distribution_to_the_end_of_the_context() -> None:
    service = ScriptedService()
    with client_of(service) as client:
        client.chat.completions.create(model="default", messages=HI)
    [generation] = service.generations
    assert (generation.sampling.temperature, generation.sampling.top_p, generation.limit) == (1.0, 1.0, None)
    assert generation.alternatives is None


def test_developer_is_system_and_parts_of_text_are_joined() -> None:
    service = ScriptedService()
    parts: Any = [{"type": "text", "text": "What is "}, {"type": "text", "text": "this?"}]
    with client_of(service) as client:
        client.chat.completions.create(
            model="default",
            messages=[{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}],
        )
    assert "system<|end_header_id|>\n\nBe brief.<|eot_id|>" in prompt_of(service)
    assert "user<|end_header_id|>\n\nWhat is this?<|eot_id|>" in prompt_of(service)


@pytest.mark.parametrize("reason", ["limit", "context", "time"])
def test_a_response_that_was_cut_off_ends_for_its_length(reason: Any) -> None:
    with client_of(ScriptedService(Script("Hello", reason=reason))) as client:
        completion = client.chat.completions.create(model="default", messages=HI)
    assert completion.choices[0].finish_reason == "length"


def test_logprobs_name_each_token_its_bytes_and_its_alternatives() -> None:
    with client_of(ScriptedService(Script("né"))) as client:
        completion = client.chat.completions.create(model="default", messages=HI, logprobs=True, top_logprobs=2)
        stream = client.chat.completions.create(model="default", messages=HI, logprobs=True, stream=True)
        streamed = [chunk.choices[0].logprobs for chunk in stream]
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert bytes(byte for token in logprobs.content for byte in token.bytes or []) == "né".encode()
    assert logprobs.content[0].token == "n"
    assert logprobs.content[0].logprob == pytest.approx(math.log(0.5))
    assert [other.logprob for other in logprobs.content[0].top_logprobs] == pytest.approx(
        [math.log(0.5), math.log(0.25)]
    )
    entries = [entry for each in streamed if each is not None for entry in each.content or []]
    assert [entry.token for entry in entries] == [entry.token for entry in logprobs.content]
    assert entries[0].top_logprobs == []


def test_a_tool_is_called_and_its_result_is_answered() -> None:
    service = ScriptedService(Script(CALL), Script("It rains."))
    with client_of(service) as client:
        asked = client.chat.completions.create(model="default", messages=HI, tools=TOOLS)
        message = asked.choices[0].message
        assert asked.choices[0].finish_reason == "tool_calls" and message.content is None
        assert message.tool_calls is not None
        [call] = message.tool_calls
        assert call.type == "function" and call.function.name == "lookup"
        assert json.loads(call.function.arguments) == {"city": "Paris"}
        result: Any = {"role": "tool", "tool_call_id": call.id, "content": "rain, 12 degrees"}
        earlier: Any = message.to_dict()
        answered = client.chat.completions.create(model="default", messages=[*HI, earlier, result], tools=TOOLS)
    assert answered.choices[0].message.content == "It rains."
    assert "rain, 12 degrees" in prompt_of(service) and '"Paris"' in prompt_of(service)


def test_a_streamed_tool_call_is_put_together_by_the_client() -> None:
    with (
        client_of(ScriptedService(Script(CALL))) as client,
        client.chat.completions.stream(model="default", messages=HI, tools=TOOLS) as stream,
    ):
        final = stream.get_final_completion()
    [call] = final.choices[0].message.tool_calls or []
    assert (final.choices[0].finish_reason, call.function.name) == ("tool_calls", "lookup")
    assert json.loads(call.function.arguments) == {"city": "Paris"}


def test_without_parallel_calls_only_the_first_call_is_reported() -> None:
    with client_of(ScriptedService(Script(f"{CALL}\n{CALL}"))) as client:
        both = client.chat.completions.create(model="default", messages=HI, tools=TOOLS)
        one = client.chat.completions.create(model="default", messages=HI, tools=TOOLS, parallel_tool_calls=False)
    assert len(both.choices[0].message.tool_calls or []) == 2
    assert len(one.choices[0].message.tool_calls or []) == 1


def test_reasoning_stands_beside_the_content_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    thought = ReasoningDelta(choice=0, text="Hm.", tokens=(Token(id=5), Token(id=6)))
    chat = ScriptedChat((STARTED, thought, TextDelta(choice=0, text="Four."), ended(tokens=6)))
    monkeypatch.setattr(openai_chat, "start_chat", chat)
    with client_of(ScriptedService()) as client:
        completion = client.chat.completions.create(model="default", messages=HI)
        chunks = list(client.chat.completions.create(model="default", messages=HI, stream=True))
    message: Any = completion.choices[0].message
    assert (message.reasoning_content, message.content) == ("Hm.", "Four.")
    assert completion.usage is not None and completion.usage.completion_tokens_details is not None
    assert completion.usage.completion_tokens_details.reasoning_tokens == 2
    deltas: list[Any] = [chunk.choices[0].delta for chunk in chunks]
    assert [getattr(delta, "reasoning_content", None) for delta in deltas] == [None, "Hm.", None, None]


class Place(BaseModel):
    """What a response must be."""

    city: str
    people: int


def test_a_response_is_constrained_to_a_schema_and_parsed_by_the_client() -> None:
    service = ScriptedService(Script('{"city": "Oslo", "people": 7}'))
    with client_of(service) as client:
        completion = client.chat.completions.parse(model="default", messages=HI, response_format=Place)
    assert completion.choices[0].message.parsed == Place(city="Oslo", people=7)
    assert service.generations[0].constraint is not None


def test_a_full_queue_is_a_rate_limit_with_the_time_to_wait() -> None:
    with client_of(ScriptedService(Script(refusal=queue_full(3.0)))) as client:
        with pytest.raises(openai.RateLimitError) as raised:
            client.chat.completions.create(model="default", messages=HI)
    assert raised.value.response.headers["retry-after"] == "3"


def test_an_unknown_model_is_not_found() -> None:
    with client_of(ScriptedService()) as client, pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="gpt-5", messages=HI)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers() -> None:
    with client_of(ScriptedService()) as client, pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="default", messages=[{"role": "user", "content": "word " * 600}])
    error: Any = raised.value.body
    assert error["code"] == "context_length_exceeded"
    assert error["n_ctx"] == 512 and error["n_prompt_tokens"] > 600
    assert (
        f"maximum context length is 512 tokens. However, the prompt has {error['n_prompt_tokens']}" in error["message"]
    )


def test_a_failure_of_the_engine_is_a_server_error_and_the_next_request_works() -> None:
    with client_of(ScriptedService(Script("Hello", fails_after=0), Script("Fine."))) as client:
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model="default", messages=HI)
        assert client.chat.completions.create(model="default", messages=HI).choices[0].message.content == "Fine."


def test_a_failure_inside_a_stream_is_an_error_after_the_text_that_came() -> None:
    texts = []
    with client_of(ScriptedService(Script("Hello there.", fails_after=1))) as client:
        with pytest.raises(openai.APIError, match="engine failed"):
            for chunk in client.chat.completions.create(model="default", messages=HI, stream=True):
                texts.append(chunk.choices[0].delta.content)
    assert texts == ["", "Hello"]


def test_variables_of_the_template_are_part_of_the_request() -> None:
    sent = {"model": "m", "messages": HI, "chat_template_kwargs": {"enable_thinking": False}}
    served = ScriptedService().model("default")
    assert ChatCompletionBody.model_validate(sent).request(served).variables == {"enable_thinking": False}
