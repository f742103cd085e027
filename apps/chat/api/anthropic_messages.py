"""Anthropic's Messages API: `/v1/messages`, streamed or whole, and `/v1/messages/count_tokens`."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from mlx_suite.serving.chat import ChatEvent, ReasoningDelta, TextDelta, ToolCallDelta
from mlx_suite.serving.chat_service import ChatStream, chat_prompt, start_chat
from mlx_suite.serving.generation import Ended, Started

from .answering import logged, request_id, while_connected
from .anthropic_request import CountBody, MessagesBody, message_request, prompt_request
from .app import ServiceOf
from .json_body import JsonRoute
from .refusal import anthropic_error
from .sse import EventStream, sse_event

router = APIRouter(route_class=JsonRoute, tags=["Anthropic"])

STOP_REASONS = {
    "stop": "end_turn",
    "limit": "max_tokens",
    "time": "max_tokens",
    "context": "model_context_window_exceeded",
}
Json = dict[str, Any]


@router.post("/v1/messages")
async def messages(body: MessagesBody, request: Request, service: ServiceOf) -> Response:
    """The next assistant turn; with `stream`, as server-sent events."""
    stream = await start_chat(service, message_request(body))
    writer = MessageWriter(model=body.model, thinks=body.thinking is None or body.thinking.type != "disabled")
    if body.stream:
        return EventStream(_events(stream, writer, request_id(request)), stream)
    await while_connected(request, stream, _written(stream, writer))
    return JSONResponse(writer.message())


@router.post("/v1/messages/count_tokens")
async def count_tokens(body: CountBody, service: ServiceOf) -> Response:
    """How many tokens the prompt of a request has."""
    ids = await asyncio.to_thread(chat_prompt, service.model(body.model), prompt_request(body))
    return JSONResponse({"input_tokens": len(ids)})


class MessageWriter:
    """Turns the events of a chat into the events of a message, and keeps the message."""

    def __init__(self, model: str, thinks: bool) -> None:
        self._thinks = thinks
        self._blocks: list[Json] = []
        self._open = ""
        """Type of the block that is being written, with the number of a tool call; empty between blocks."""
        self._message: Json = {
            "id": f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(0, 0, 0),
        }

    def write(self, event: ChatEvent) -> Iterator[Json]:
        """The events that a chat event stands for."""
        match event:
            case Started():
                self._message["usage"] = _usage(event.prompt_tokens, event.cached_tokens, 0)
                yield {"type": "message_start", "message": {**self._message, "content": []}}
                yield {"type": "ping"}
            case TextDelta() if event.text:
                yield from self._opened("text", {"type": "text", "text": ""})
                yield self._added("text", {"type": "text_delta", "text": event.text})
            case ReasoningDelta() if event.text and self._thinks:
                yield from self._opened("thinking", {"type": "thinking", "thinking": "", "signature": ""})
                yield self._added("thinking", {"type": "thinking_delta", "thinking": event.text})
            case ToolCallDelta():
                block = {"type": "tool_use", "id": event.call.id, "name": event.call.name, "input": {}}
                yield from self._opened(f"tool_use {event.index}", block)
                if event.call.arguments:
                    yield self._added("input", {"type": "input_json_delta", "partial_json": event.call.arguments})
            case Ended():
                yield from self._closed()
                yield from self._ended(event)

    def message(self) -> Json:
        """The whole message."""
        return {**self._message, "content": [_finished(block) for block in self._blocks]}

    def _opened(self, kind: str, block: Json) -> Iterator[Json]:
        if self._open != kind:
            yield from self._closed()
            self._open = kind
            yield {"type": "content_block_start", "index": len(self._blocks), "content_block": block}
            self._blocks.append({**block, "input": ""} if "input" in block else dict(block))

    def _added(self, field: str, delta: Json) -> Json:
        self._blocks[-1][field] += next(text for name, text in delta.items() if name != "type")
        return {"type": "content_block_delta", "index": len(self._blocks) - 1, "delta": delta}

    def _closed(self) -> Iterator[Json]:
        if self._open:
            self._open = ""
            yield {"type": "content_block_stop", "index": len(self._blocks) - 1}

    def _ended(self, event: Ended) -> Iterator[Json]:
        reason = STOP_REASONS.get(event.reason, "end_turn")
        if event.reason == "stop" and event.stop_text is not None:
            reason = "stop_sequence"
        elif event.reason == "stop" and any(block["type"] == "tool_use" for block in self._blocks):
            reason = "tool_use"
        end = {"stop_reason": reason, "stop_sequence": event.stop_text}
        usage = _usage(event.prompt_tokens, event.cached_tokens, event.tokens)
        self._message |= {**end, "usage": usage}
        yield {"type": "message_delta", "delta": end, "usage": usage}
        yield {"type": "message_stop"}


async def _written(stream: ChatStream, writer: MessageWriter) -> None:
    async for event in stream:
        for _ in writer.write(event):
            pass


async def _events(stream: ChatStream, writer: MessageWriter, identity: str) -> AsyncIterator[str]:
    try:
        async for event in stream:
            for written in writer.write(event):
                yield sse_event(written, written["type"])
    except Exception as error:
        yield sse_event(anthropic_error(logged(error), identity), "error")


def _usage(prompt: int, cached: int, written: int) -> Json:
    """As in Anthropic's API, input tokens are those that no cache held."""
    return {
        "input_tokens": prompt - cached,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": written,
    }


def _finished(block: Json) -> Json:
    """A block of the whole message; arguments that were cut off before they were JSON are left out."""
    if block["type"] != "tool_use":
        return block
    try:
        arguments = json.loads(block["input"] or "{}")
    except ValueError:
        arguments = {}
    return {**block, "input": arguments if isinstance(arguments, dict) else {}}
