"""Constrained chats on the real service with the shipped models."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from mlx_suite.engine import Engine, Given, Program, Request, Sample, Sampling
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.loading import load
from mlx_suite.serving.chat import ChatEvent, ChatMessage, ChatRequest, TextDelta, Tool, ToolCallDelta
from mlx_suite.serving.chat_service import start_chat
from mlx_suite.serving.engine_service import EngineService
from mlx_suite.serving.generation import Ended
from mlx_suite.serving.grammar import schema_grammar
from mlx_suite.serving.worker import Limits, LoadedModel, Worker
from mlx_suite.text import Message, load_chat_template
from tests.serving.tool_templates import MODELS, PERSON, TAGGED

NAMES = ("tiny-llama3", "tiny-gemma2")
ASKED = (ChatMessage(role="user", content="Who was the first programmer?"),)


def loaded(name: str, folder: str) -> LoadedModel:
    model, tokenizer = load(MODELS / folder)
    template = load_chat_template(MODELS / folder)
    if name == "tagged":
        template = replace(template, source=TAGGED)
    return LoadedModel(name=name, chat=ChatModel(model=model, tokenizer=tokenizer, template=template), base=name)


@pytest.fixture(scope="module")
def service() -> Iterator[EngineService]:
    folders = {"tiny-llama3": "tiny-llama3", "tiny-gemma2": "tiny-gemma2", "tagged": "tiny-llama3"}
    worker = Worker(lambda: [loaded(*each) for each in folders.items()], lambda: Limits(slots=4))
    worker.start()
    yield EngineService(worker)
    worker.close()


def answers(service: EngineService, *requests: ChatRequest) -> list[list[ChatEvent]]:
    """The events of requests that run together."""

    async def read(request: ChatRequest) -> list[ChatEvent]:
        return [event async for event in await start_chat(service, request)]

    async def read_all() -> list[list[ChatEvent]]:
        return await asyncio.gather(*map(read, requests))

    return asyncio.run(read_all())


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize("name", NAMES)
def test_a_response_with_a_schema_is_json_that_satisfies_it(service: EngineService, name: str) -> None:
    request = ChatRequest(model=name, messages=ASKED, schema=PERSON, limit=100)
    free = replace(request, schema=None, limit=20)
    told = answers(service, *(replace(request, seed=seed) for seed in range(3)), replace(free, seed=9))
    for events in told[:3]:
        person = json.loads(text_of(events))
        assert list(person) == ["name", "age"]
        assert len(person["name"]) <= 8 and 0 <= person["age"] <= 150
        last = events[-1]
        assert isinstance(last, Ended) and last.reason == "stop"
    [alone] = answers(service, replace(free, seed=9))
    assert text_of(alone) == text_of(told[3]) != ""  # the row beside them is not affected


def test_json_that_reaches_the_limit_is_cut(service: EngineService) -> None:
    [events] = answers(service, ChatRequest(model="tiny-llama3", messages=ASKED, schema=PERSON, limit=4, seed=1))
    assert text_of(events) == '{"name'
    last = events[-1]
    assert isinstance(last, Ended) and last.reason == "limit"


@pytest.mark.parametrize("name", [*NAMES, "tagged"])
def test_a_required_tool_is_called(service: EngineService, name: str) -> None:
    tool = Tool(name="find", parameters=PERSON)
    [events] = answers(
        service, ChatRequest(model=name, messages=ASKED, tools=(tool,), tool_choice=tool, limit=100, seed=2)
    )
    assert text_of(events) == ""
    [call] = [event.call for event in events if isinstance(event, ToolCallDelta)]
    assert call.name == "find"
    assert list(json.loads(call.arguments)) == ["name", "age"]


@pytest.mark.parametrize("name", NAMES)
def test_forced_tokens_are_not_sampled(name: str) -> None:
    chat = loaded(name, name).chat
    rows, stop = chat.vocabulary_size, chat.response_stops
    prompt = chat.prompt((Message("user", ASKED[0].content),))
    assert prompt is not None

    def program() -> Program:
        yield Given(prompt)
        constraint = schema_grammar(chat.tokenizer, rows, PERSON).constraint(stop)
        greedy = Sampling(temperature=0.0)
        return (yield Sample(limit=100, stop=frozenset(stop), sampling=greedy, constraint=constraint))

    engine = Engine(chat.model, slots=1)
    [done] = engine.run([Request(program=program())])
    text = chat.tokenizer.decode(done.result.tokens)
    assert list(json.loads(text)) == ["name", "age"]
    forced = len(chat.tokenizer.encode('{"name":')) + len(chat.tokenizer.encode(', "age":'))
    assert engine.stats.sampled <= len(done.result.tokens) + 1 - forced
