"""OpenAI's chat completions: POST /v1/chat/completions."""

import time
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from mlx_suite.serving.chat import ChatRequest, ReasoningDelta, TextDelta, ToolCallDelta
from mlx_suite.serving.chat_service import start_chat
from mlx_suite.serving.generation import Ended, Started, Token
from mlx_suite.serving.service import ServedModel

from .app import ServiceOf
from .errors import OPENAI_ERRORS, ParameterError
from .json_body import JsonRoute
from .openai_answer import completion_answer
from .openai_logprobs import chat_logprobs
from .openai_messages import (
    NamedTool,
    RequestMessage,
    RequestTool,
    ResponseFormat,
    chat_messages,
    chat_tools,
    tool_choice,
)
from .openai_parameters import (
    MAX_ALTERNATIVES,
    MAX_CHOICES,
    Count,
    JsonObject,
    SamplingParameters,
    StreamOptions,
    stop_texts,
)
from .openai_usage import new_id, usage
from .sse import sse_event

router = APIRouter(route_class=JsonRoute, tags=["OpenAI"], responses=OPENAI_ERRORS)

REFUSED = {
    "audio": "leave it out: the model writes text only",
    "functions": "send tools",
    "function_call": "send tool_choice",
    "web_search_options": "leave it out: the server never searches",
}


class ChatCompletionBody(SamplingParameters):
    """The body of a chat completion."""

    messages: list[RequestMessage]
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    stop: str | list[str] = []
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] = 0
    tools: list[RequestTool] = []
    tool_choice: str | NamedTool = "auto"
    parallel_tool_calls: bool = True
    response_format: ResponseFormat = ResponseFormat(type="text")
    modalities: list[str] = ["text"]
    chat_template_kwargs: JsonObject = {}

    def request(self, served: ServedModel) -> ChatRequest:
        """The request for the chat layer. Raises ParameterError."""
        self.refuse(REFUSED)
        if self.modalities != ["text"]:
            raise ParameterError("modalities", "the model writes text only", 'send ["text"]')
        if self.top_logprobs and not self.logprobs:
            raise ParameterError("top_logprobs", "top_logprobs needs logprobs", "set logprobs to true")
        tools = chat_tools(self.tools)
        return ChatRequest(
            model=served.name,
            messages=chat_messages(self.messages),
            tools=tools,
            tool_choice=tool_choice(self.tool_choice, tools),
            schema=self.response_format.schema_of_text(),
            limit=self.max_completion_tokens or self.max_tokens,
            sampling=self.sampling(served),
            seed=self.seed,
            choices=self.n,
            stop_texts=stop_texts(self.stop),
            alternatives=self.top_logprobs if self.logprobs else None,
            variables=self.chat_template_kwargs,
        )


@dataclass
class _Choice:
    """What has been received of a choice."""

    text: str = ""
    reasoning: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    end: Ended | None = None

    @property
    def finish_reason(self) -> str:
        assert self.end is not None, "the choice has not ended"
        if self.end.reason in ("limit", "context", "time"):
            return "length"
        return "tool_calls" if self.calls else "stop"


class _Completion:
    """The completion of one request, whole or in chunks."""

    def __init__(self, body: ChatCompletionBody, served: ServedModel) -> None:
        self._body, self._served = body, served
        self._head = {"id": new_id("chatcmpl-"), "created": int(time.time()), "model": served.name}
        self._choices = [_Choice() for _ in range(body.n)]
        self._reasoning = 0

    def add(self, event: Started | TextDelta | ReasoningDelta | ToolCallDelta | Ended) -> dict[str, Any] | None:
        """Add an event, and return what it adds to the choice as `delta`; None if that is nothing."""
        choice = self._choices[event.choice]
        match event:
            case Started():
                return {"role": "assistant", "content": ""}
            case TextDelta(text=text, tokens=tokens):
                choice.text += text
                choice.tokens += tokens
                return {"content": text} if text or (tokens and self._body.logprobs) else None
            case ReasoningDelta(text=text, tokens=tokens):
                choice.reasoning += text
                self._reasoning += len(tokens)
                return {"reasoning_content": text} if text else None
            case ToolCallDelta():
                return self._add_call(choice, event)
            case Ended():
                choice.end = event
                return {}

    def _add_call(self, choice: _Choice, event: ToolCallDelta) -> dict[str, Any] | None:
        if event.index and not self._body.parallel_tool_calls:
            return None  # only the first call was wanted
        call, new = event.call, event.index == len(choice.calls)
        if new:
            function = {"name": call.name, "arguments": ""}
            choice.calls.append({"id": call.id, "type": "function", "function": function})
        choice.calls[event.index]["function"]["arguments"] += call.arguments
        if not new:
            return {"tool_calls": [{"index": event.index, "function": {"arguments": call.arguments}}]}
        function = {"name": call.name, "arguments": call.arguments}
        return {"tool_calls": [{"index": event.index, "id": call.id, "type": "function", "function": function}]}

    def whole(self) -> dict[str, Any]:
        """The response's body after the last event."""
        choices = [self._whole_choice(index, choice) for index, choice in enumerate(self._choices)]
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": self._usage()}

    def _whole_choice(self, index: int, choice: _Choice) -> dict[str, Any]:
        content = choice.text if choice.text or not choice.calls else None
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if choice.reasoning:
            message["reasoning_content"] = choice.reasoning
        if choice.calls:
            message["tool_calls"] = choice.calls
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(choice.tokens),
            "finish_reason": choice.finish_reason,
        }

    def chunk(self, event: Started | TextDelta | ReasoningDelta | ToolCallDelta | Ended) -> str:
        """The server-sent event for an event; empty if there is nothing to send."""
        delta = self.add(event)
        if delta is None:
            return ""
        choice: dict[str, Any] = {"index": event.choice, "delta": delta, "logprobs": None, "finish_reason": None}
        if isinstance(event, TextDelta):
            choice["logprobs"] = self._logprobs(event.tokens)
        if isinstance(event, Ended):
            choice["finish_reason"] = self._choices[event.choice].finish_reason
        return sse_event(self._chunk([choice], None))

    def usage_chunk(self) -> str:
        """The chunk with the numbers of tokens."""
        return sse_event(self._chunk([], self._usage()))

    def _chunk(self, choices: list[dict[str, Any]], numbers: dict[str, Any] | None) -> dict[str, Any]:
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": choices}
        return {**chunk, "usage": numbers} if self._body.stream_options.include_usage else chunk

    def _logprobs(self, tokens: list[Token] | tuple[Token, ...]) -> dict[str, Any] | None:
        if not self._body.logprobs:
            return None
        content = chat_logprobs(self._served.chat.tokenizer, tokens, self._body.top_logprobs)
        return {"content": content, "refusal": None}

    def _usage(self) -> dict[str, Any]:
        ends = [choice.end for choice in self._choices if choice.end is not None]
        return usage(ends, self._body.n, self._reasoning).openai()


@router.post("/v1/chat/completions", response_model=None)
async def chat_completions(body: ChatCompletionBody, request: Request, service: ServiceOf) -> Response:
    """The next turn of a conversation."""
    served = service.model(body.model)
    stream = await start_chat(service, body.request(served))
    completion = _Completion(body, served)
    options = body.stream_options if body.stream else None
    return await completion_answer(request, stream, completion, options=options)
