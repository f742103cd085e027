"""Ollama's API: `/api/chat` and `/api/generate`, streamed as lines of JSON or whole."""

import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from mlx_suite.engine.never_sampled import banning
from mlx_suite.serving.chat import ChatEvent, ChatRequest, ReasoningDelta, TextDelta, ToolCallDelta
from mlx_suite.serving.chat_service import start_chat
from mlx_suite.serving.generation import Delta, Ended, Event, Generation, Started
from mlx_suite.serving.service import ServedModel, Stream

from .answering import StreamedAnswer, logged, while_connected
from .app import ServiceOf
from .json_body import JsonRoute
from .ollama_request import Asked, ChatBody, GenerateBody, served_model

router = APIRouter(route_class=JsonRoute, tags=["Ollama"])

DONE_REASONS = {"stop": "stop", "cancelled": "stop"}
Json = dict[str, Any]
Piece = Callable[[str, str, list[Json]], Json]
"""Fields of a line for more text, more reasoning and complete tool calls."""


@router.post("/api/chat")
async def chat(body: ChatBody, request: Request, service: ServiceOf) -> Response:
    """The next turn of a chat."""
    served = served_model(service, body.model)
    body.settings.check_context(served)
    if not body.messages:
        return JSONResponse({**_head(body.model), **_chat_piece("", "", []), "done": True, "done_reason": "load"})
    writer = LineWriter(body, _chat_piece)
    stream = await start_chat(service, body.chat_request(served.name))
    return await _answer(body, request, writer, stream, stream)


@router.post("/api/generate")
async def generate(body: GenerateBody, request: Request, service: ServiceOf) -> Response:
    """A response to one prompt; with `raw`, a continuation of it without the chat template."""
    served = served_model(service, body.model)
    body.settings.check_context(served)
    body.check()
    if not body.prompt:
        return JSONResponse({**_head(body.model), "response": "", "done": True, "done_reason": "load"})
    writer = LineWriter(body, _generate_piece)
    asked = body.chat_request(served.name)
    if body.raw:
        raw = await service.start(_raw_generation(served, body.prompt, asked))
        return await _answer(body, request, writer, raw, raw)
    stream = await start_chat(service, asked)
    return await _answer(body, request, writer, stream, stream)


class LineWriter:
    """Turns the events of a response into lines, and keeps what a whole answer says."""

    def __init__(self, body: Asked, piece: Piece) -> None:
        self._model, self._thinks, self._piece = body.model, body.think is not False, piece
        self._begun = time.perf_counter_ns()
        self._prefilled = self._begun
        self._text, self._thinking = "", ""
        self._calls: list[Json] = []
        self._name, self._arguments = "", ""
        """The tool call that is being written."""

    def write(self, event: ChatEvent | Event) -> Iterator[Json]:
        """The lines that an event stands for."""
        match event:
            case Started():
                self._prefilled = time.perf_counter_ns()
            case TextDelta() | Delta() if event.text:
                yield from self._call_line()
                self._text += event.text
                yield self._line(self._piece(event.text, "", []))
            case ReasoningDelta() if event.text and self._thinks:
                self._thinking += event.text
                yield self._line(self._piece("", event.text, []))
            case ToolCallDelta():
                if event.call.name:
                    yield from self._call_line()
                    self._name = event.call.name
                self._arguments += event.call.arguments
            case Ended():
                yield from self._call_line()
                yield {**self._line(self._piece("", "", [])), **self._end(event)}

    def whole(self, last: Json) -> Json:
        """The answer in one piece, given its last line."""
        return {**last, **self._piece(self._text, self._thinking, self._calls)}

    def _line(self, piece: Json) -> Json:
        return {**_head(self._model), **piece, "done": False}

    def _call_line(self) -> Iterator[Json]:
        """The call that was being written; one that was cut off before it was JSON is left out."""
        name, arguments, self._name, self._arguments = self._name, self._arguments, "", ""
        if not name:
            return
        try:
            values = json.loads(arguments or "{}")
        except ValueError:
            return
        call = {"function": {"index": len(self._calls), "name": name, "arguments": values}}
        self._calls.append(call)
        yield self._line(self._piece("", "", [call]))

    def _end(self, event: Ended) -> Json:
        now = time.perf_counter_ns()
        return {
            "done": True,
            "done_reason": DONE_REASONS.get(event.reason, "length"),
            "total_duration": now - self._begun,
            "load_duration": 0,
            "prompt_eval_count": event.prompt_tokens,
            "prompt_eval_duration": self._prefilled - self._begun,
            "eval_count": event.tokens,
            "eval_duration": now - self._prefilled,
        }


async def _answer(
    body: Asked, request: Request, writer: LineWriter, events: AsyncIterable[ChatEvent | Event], work: Stream | Any
) -> Response:
    if body.stream is not False:
        return StreamedAnswer(_lines(events, writer), work, "application/x-ndjson")
    return JSONResponse(await while_connected(request, work, _whole(events, writer)))


async def _lines(events: AsyncIterable[ChatEvent | Event], writer: LineWriter) -> AsyncIterator[str]:
    try:
        async for event in events:
            for line in writer.write(event):
                yield json.dumps(line) + "\n"
    except Exception as error:
        yield json.dumps({"error": logged(error).message}) + "\n"


async def _whole(events: AsyncIterable[ChatEvent | Event], writer: LineWriter) -> Json:
    last: Json = {}
    async for event in events:
        for line in writer.write(event):
            last = line
    return writer.whole(last)


def _raw_generation(served: ServedModel, prompt: str, asked: ChatRequest) -> Generation:
    chat = served.chat
    return Generation(
        model=served.name,
        prompt=tuple(chat.tokenizer.encode_prompt(prompt)),
        limit=asked.limit,
        sampling=banning(asked.sampling, chat.untrained, chat.stop_ids),
        seed=asked.seed,
        stop=frozenset(chat.stop_ids),
        stop_texts=asked.stop_texts,
    )


def _head(model: str) -> Json:
    return {"model": model, "created_at": datetime.now(UTC).isoformat()}


def _chat_piece(text: str, thinking: str, calls: list[Json]) -> Json:
    message: Json = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = calls
    return {"message": message}


def _generate_piece(text: str, thinking: str, calls: list[Json]) -> Json:
    return {"response": text, "thinking": thinking} if thinking else {"response": text}
