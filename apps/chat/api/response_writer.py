"""A response of OpenAI's responses API: its object, and the events that write it."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from mlx_suite.serving.chat import ChatEvent, ChatMessage, ReasoningDelta, TextDelta, ToolCall, ToolCallDelta
from mlx_suite.serving.generation import Ended, Started, Token
from mlx_suite.serving.service import ServedModel

from .openai_logprobs import chat_logprobs
from .openai_usage import Usage, new_id, usage
from .responses_request import ResponseBody

Json = dict[str, Any]
KINDS = {"message": "output_text", "reasoning": "reasoning_text", "function_call": "function_call_arguments"}
"""Names of the deltas of an item, by the item's type."""


class ResponseWriter:
    """Turns the events of a chat into the events of a response, and keeps the response."""

    def __init__(self, body: ResponseBody, served: ServedModel) -> None:
        self._body, self._tokenizer = body, served.chat.tokenizer
        self._response: Json = {
            "id": new_id("resp_"),
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": served.name,
            "output": [],
            "usage": None,
            **body.described(),
        }
        self._number = 0
        """Number of the next event."""
        self._open: Json | None = None
        """The item that is being written, the last of the output."""
        self._call = -1
        """Number of the last tool call."""
        self._reasoning = 0
        """Tokens of reasoning."""

    @property
    def response(self) -> Json:
        """The response's object as far as it is written."""
        return self._response

    def messages(self) -> Iterator[ChatMessage]:
        """The output as an assistant's turn; nothing if it is empty."""
        output = self._response["output"]
        text = "".join(part["text"] for item in output if item["type"] == "message" for part in item["content"])
        calls = tuple(
            ToolCall(id=item["call_id"], name=item["name"], arguments=item["arguments"])
            for item in output
            if item["type"] == "function_call"
        )
        if text or calls:
            yield ChatMessage(role="assistant", content=text, tool_calls=calls)

    def begin(self) -> Iterator[Json]:
        """The events before the first of the chat."""
        yield self._event("response.created", response=self._snapshot())
        yield self._event("response.in_progress", response=self._snapshot())

    def write(self, event: ChatEvent) -> Iterator[Json]:
        """The events that a chat event stands for."""
        match event:
            case Started():
                pass
            case TextDelta(text=text, tokens=tokens):
                scored = self._body.reports_logprobs and bool(tokens)
                if text or scored:
                    yield from self._opened("message")
                    yield self._text_delta(text, tokens)
            case ReasoningDelta(text=text, tokens=tokens):
                self._reasoning += len(tokens)
                if text:
                    yield from self._opened("reasoning")
                    self._part()["text"] += text
                    yield self._event("response.reasoning_text.delta", **self._place(), content_index=0, delta=text)
            case ToolCallDelta(index=index, call=call):
                if index == 0 or self._body.parallel_tool_calls:
                    yield from self._called(index, call)
            case Ended():
                yield from self._ended(event)

    def fail(self, error: Json) -> Iterator[Json]:
        """The events of a failure; `error` is its value in OpenAI's protocol."""
        yield self._event("error", code=error["code"], message=error["message"], param=error["param"])
        self._response |= {"status": "failed", "error": {"code": "server_error", "message": error["message"]}}
        yield self._event("response.failed", response=self._snapshot())

    def _ended(self, event: Ended) -> Iterator[Json]:
        if not self._response["output"]:
            yield from self._opened("message")
        complete = event.reason not in ("limit", "context", "time")
        yield from self._closed("completed" if complete else "incomplete")
        self._response |= {"status": "completed", "completed_at": int(time.time())}
        if not complete:
            details = {"reason": "max_output_tokens"}
            self._response |= {"status": "incomplete", "completed_at": None, "incomplete_details": details}
        self._response["usage"] = _usage(usage([event], reasoning=self._reasoning))
        yield self._event(f"response.{self._response['status']}", response=self._snapshot())

    def _called(self, index: int, call: ToolCall) -> Iterator[Json]:
        if index != self._call:
            self._call = index
            yield from self._closed("completed")
            yield from self._opened("function_call", call)
        assert self._open is not None, "arguments without a call"
        self._open["arguments"] += call.arguments
        if call.arguments:
            yield self._event("response.function_call_arguments.delta", **self._place(), delta=call.arguments)

    def _text_delta(self, text: str, tokens: Sequence[Token]) -> Json:
        scores: list[Json] = []
        if self._body.reports_logprobs:
            scores = chat_logprobs(self._tokenizer, tokens, self._body.top_logprobs)
        part = self._part()
        part["text"] += text
        part["logprobs"] += scores
        return self._event("response.output_text.delta", **self._place(), content_index=0, delta=text, logprobs=scores)

    def _opened(self, kind: str, call: ToolCall | None = None) -> Iterator[Json]:
        """The events that begin an item of a type, unless one is open."""
        if self._open is not None and self._open["type"] == kind:
            return
        yield from self._closed("completed")
        self._open = _new_item(kind, call)
        self._response["output"].append(self._open)
        yield self._event("response.output_item.added", output_index=self._index, item=_copy(self._open))
        if kind != "function_call":
            part = {"type": KINDS[kind], "text": ""}
            self._open["content"] = [part if kind == "reasoning" else {**part, "annotations": [], "logprobs": []}]
            part = _copy(self._part())
            yield self._event("response.content_part.added", **self._place(), content_index=0, part=part)

    def _closed(self, status: str) -> Iterator[Json]:
        """The events that end the open item."""
        item = self._open
        if item is None:
            return
        done = f"response.{KINDS[item['type']]}.done"
        if item["type"] == "function_call":
            yield self._event(done, **self._place(), name=item["name"], arguments=item["arguments"])
        else:
            part = _copy(self._part())
            scores = {"logprobs": part["logprobs"]} if item["type"] == "message" else {}
            yield self._event(done, **self._place(), content_index=0, text=part["text"], **scores)
            yield self._event("response.content_part.done", **self._place(), content_index=0, part=part)
        item["status"] = status
        yield self._event("response.output_item.done", output_index=self._index, item=_copy(item))
        self._open = None

    @property
    def _index(self) -> int:
        return len(self._response["output"]) - 1

    def _place(self) -> Json:
        return {"item_id": self._response["output"][-1]["id"], "output_index": self._index}

    def _part(self) -> Json:
        assert self._open is not None, "no item is open"
        part: Json = self._open["content"][0]
        return part

    def _snapshot(self) -> Json:
        return {**self._response, "output": [_copy(item) for item in self._response["output"]]}

    def _event(self, kind: str, **values: Any) -> Json:
        event = {"type": kind, "sequence_number": self._number, **values}
        self._number += 1
        return event


def _new_item(kind: str, call: ToolCall | None) -> Json:
    if call is not None:
        names = {"call_id": call.id, "name": call.name, "arguments": ""}
        return {"id": new_id("fc_"), "type": kind, "status": "in_progress", **names}
    if kind == "reasoning":
        return {"id": new_id("rs_"), "type": kind, "status": "in_progress", "summary": [], "content": []}
    return {"id": new_id("msg_"), "type": kind, "status": "in_progress", "role": "assistant", "content": []}


def _copy(item: Json) -> Json:
    """The item as it is now; its parts go on changing."""
    if "content" not in item:
        return dict(item)
    return {**item, "content": [dict(part) for part in item["content"]]}


def _usage(numbers: Usage) -> Json:
    return {
        "input_tokens": numbers.prompt,
        "input_tokens_details": {"cached_tokens": numbers.cached, "cache_write_tokens": 0},
        "output_tokens": numbers.completion,
        "output_tokens_details": {"reasoning_tokens": numbers.reasoning},
        "total_tokens": numbers.prompt + numbers.completion,
    }
