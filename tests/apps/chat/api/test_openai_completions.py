"""Text completions, embeddings and models, asked for by OpenAI's official client."""

import base64
import math
import struct
from typing import Any

import openai
import pytest

from tests.apps.chat.api.openai_server import client_of
from tests.apps.chat.api.scripted_service import Script, ScriptedService, chat_model, queue_full


def ids(text: str) -> list[int]:
    return chat_model().tokenizer.encode(text)


def test_a_text_is_continued_after_one_bos_for_sixteen_tokens() -> None:
    service = ScriptedService(Script("Hello there."))
    with client_of(service) as client:
        completion = client.completions.create(model="tiny-llama3", prompt="Once upon")
    assert completion.choices[0].text == "Hello there."
    assert (completion.object, completion.choices[0].finish_reason) == ("text_completion", "stop")
    [generation] = service.generations
    assert generation.prompt == (chat_model().tokenizer.bos_id, *ids("Once upon"))
    assert generation.limit == 16


def test_token_ids_are_taken_as_they_are() -> None:
    service = ScriptedService()
    with client_of(service) as client:
        client.completions.create(model="default", prompt=[5, 9, 2000])
        client.completions.create(model="default", prompt=[[5], [9, 10]])
    assert [generation.prompt for generation in service.generations] == [(5, 9, 2000), (5,), (9, 10)]


def test_several_prompts_have_their_choices_in_order() -> None:
    service = ScriptedService(Script(texts=("one", "two")), Script(texts=("three", "four")))
    with client_of(service) as client:
        completion = client.completions.create(model="default", prompt=[[5], [9, 10]], n=2)
    texts = [(choice.index, choice.text) for choice in completion.choices]
    assert texts == [(0, "one"), (1, "two"), (2, "three"), (3, "four")]
    assert completion.usage is not None and completion.usage.prompt_tokens == 3


def test_a_stream_of_several_prompts_tells_the_choices_apart() -> None:
    service = ScriptedService(Script("Hello there."), Script("No."))
    with client_of(service) as client:
        stream = client.completions.create(
            model="default", prompt=["a", "b"], stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = list(stream)
    texts = ["", ""]
    for chunk in chunks:
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == ["Hello there.", "No."]
    assert sorted(chunk.choices[0].index for chunk in chunks if chunk.choices[0].finish_reason == "stop") == [0, 1]
    assert last.usage is not None and last.usage.prompt_tokens == 4


@pytest.mark.parametrize("streams", [False, True])
def test_an_echo_begins_with_the_prompt(streams: bool) -> None:
    with client_of(ScriptedService(Script(" there."))) as client:
        answer: Any = client.completions.create(model="default", prompt="Hello", echo=True, stream=streams)
        chunks = list(answer) if streams else [answer]
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Hello there."


def test_logprobs_are_parallel_lists_with_places_in_the_text() -> None:
    with client_of(ScriptedService(Script("Hello there."))) as client:
        completion = client.completions.create(model="default", prompt="x", logprobs=1)
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == ["Hello", " there", "."]
    assert logprobs.text_offset == [0, 5, 11]
    assert logprobs.token_logprobs == pytest.approx([math.log(0.5)] * 3)
    assert logprobs.top_logprobs is not None and list(logprobs.top_logprobs[0]) == ["Hello"]


def test_if_one_prompt_is_refused_the_others_are_cancelled() -> None:
    service = ScriptedService(Script("Hello"), Script(refusal=queue_full()))
    with client_of(service) as client, pytest.raises(openai.RateLimitError):
        client.completions.create(model="default", prompt=["a", "b"])
    assert [stream.cancelled for stream in service.streams] == [True]


def test_many_prompts_are_in_flight_sixteen_choices_at_a_time() -> None:
    service = ScriptedService(Script(texts=("a", "b"), delay=0.001))
    running: list[int] = []
    start = service.start

    async def counted(generation: Any) -> Any:
        running.append(2 * service.status().running)
        return await start(generation)

    service.start = counted  # type: ignore[method-assign]
    with client_of(service) as client:
        completion = client.completions.create(model="default", prompt=[[5]] * 40, n=2)
    assert [choice.text for choice in completion.choices] == ["a", "b"] * 40
    assert len(running) == 40 and max(running) == 14  # and 2 that start


def test_a_prompt_of_an_accepted_request_waits_while_the_queue_is_full() -> None:
    service = ScriptedService(*[Script("first")] * 16, Script(refusal=queue_full(0.01)), Script("later"))
    with client_of(service) as client:
        completion = client.completions.create(model="default", prompt=[[5]] * 18)
    assert [choice.text for choice in completion.choices] == ["first"] * 16 + ["later"] * 2


def test_if_one_prompt_fails_the_others_are_cancelled() -> None:
    service = ScriptedService(Script("Hello", hangs_after=1), Script("Hello", fails_after=0))
    with client_of(service) as client, pytest.raises(openai.InternalServerError):
        client.completions.create(model="default", prompt=["a", "b"])
    assert service.streams[0].cancelled


@pytest.mark.parametrize(
    ("param", "wrong"),
    [
        ("suffix", {"suffix": "the end"}),
        ("best_of", {"best_of": 3}),
        ("logprobs", {"logprobs": 6}),
        ("logprobs", {"logprobs": 1, "echo": True}),
        ("prompt", {"prompt": []}),
        ("prompt", {"prompt": [[]]}),
        ("prompt", {"prompt": [1, 99999]}),
        ("max_tokens", {"max_tokens": 0}),
    ],
)
def test_what_a_completion_cannot_do_is_refused(param: str, wrong: Any) -> None:
    with client_of(ScriptedService()) as client, pytest.raises(openai.BadRequestError) as raised:
        client.completions.create(model="default", **{"prompt": "x", **wrong})
    assert raised.value.param == param


def test_embeddings_of_texts_and_of_token_ids() -> None:
    with client_of(ScriptedService()) as client:
        texts = client.embeddings.create(model="default", input=["a", "b c"], encoding_format="float")
        tokens = client.embeddings.create(model="default", input=[5, 6], encoding_format="float")
    assert [each.embedding for each in texts.data] == [[0.8, -0.6], [0.6, 0.8]]
    assert [each.index for each in texts.data] == [0, 1]
    assert texts.usage.prompt_tokens == 5  # BOS before each text
    assert [each.embedding for each in tokens.data] == [[0.8, -0.6]]
    assert tokens.usage.total_tokens == 2


def test_many_inputs_are_embedded_in_batches_of_sixteen() -> None:
    service = ScriptedService()
    sizes: list[int] = []
    embed = service.embed

    async def counted(model: str, prompts: Any) -> Any:
        sizes.append(len(prompts))
        return await embed(model, prompts)

    service.embed = counted  # type: ignore[method-assign]
    with client_of(service) as client:
        answer = client.embeddings.create(model="default", input=[[5]] * 35)
    assert len(answer.data) == 35 and sizes == [16, 16, 3]


def test_embeddings_in_base64_are_little_endian_fp32() -> None:
    with client_of(ScriptedService()) as client:
        raw = client.embeddings.with_raw_response.create(model="default", input=[5], encoding_format="base64")
    encoded = raw.http_response.json()["data"][0]["embedding"]
    assert struct.unpack("<2f", base64.b64decode(encoded)) == pytest.approx((0.6, 0.8))


def test_embeddings_have_the_models_own_size() -> None:
    with client_of(ScriptedService()) as client, pytest.raises(openai.BadRequestError, match="have 2 dimensions"):
        client.embeddings.create(model="default", input="x", dimensions=256)


def test_all_served_models_are_listed_and_found_by_name() -> None:
    with client_of(ScriptedService(names=("tiny-llama3", "org/other"))) as client:
        listed = [model.id for model in client.models.list()]
        found = client.models.retrieve("org/other")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-5")
    assert listed == ["tiny-llama3", "org/other"]
    assert (found.id, found.object, found.created) == ("org/other", "model", 1_700_000_000)
