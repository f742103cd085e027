"""Chats: requests for an assistant turn as generations, and their events as text, thoughts and tool calls."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlx_suite.data.encode.styles import CHAT
from mlx_suite.data.read.conversation import TOOL, call_text, tools_text, with_tools
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.engine.never_sampled import banning
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.serving.chat import ChatEvent, ChatMessage, ChatRequest, Tool
from mlx_suite.serving.generation import Delta, Ended, Generation, Started
from mlx_suite.serving.grammar import Grammar, lark_grammar, schema_grammar
from mlx_suite.serving.response_reader import CLOSE_THOUGHT, OPEN_THOUGHT, ResponseReader
from mlx_suite.serving.service import ServedModel, Service, Stream
from mlx_suite.serving.tool_format import (
    LINES,
    ToolFormat,
    call_names,
    definition,
    format_of,
    one_call_each,
    parsed,
    turns_of,
)
from mlx_suite.serving.tool_grammar import Thoughts, response_grammar
from mlx_suite.text import Message, TemplateRefusal
from mlx_suite.text.chat import encode_tool_chat
from mlx_suite.text.message import ASSISTANT, SYSTEM, USER
from mlx_suite.text.pieces import replace_surrogates
from mlx_suite.text.template import with_variables
from mlx_suite.text.template_variables import check_names

ROLES = (SYSTEM, USER, ASSISTANT, TOOL)
TAIL = 16
"""Tokens at the end of a prompt that show whether the template has opened or closed <think>."""


@dataclass(frozen=True, kw_only=True)
class ChatPlan:
    """A generation for a chat request, and how to read its text."""

    generation: Generation
    format: ToolFormat | None
    """How tools are called; None if there are none to call."""
    tools: frozenset[str]
    """Names of the tools that may be called."""
    thinking: bool
    """Whether the prompt has opened <think>."""


class ChatStream:
    """The events of a chat response. Iterating raises what the service's stream raises."""

    def __init__(self, stream: Stream, plan: ChatPlan) -> None:
        self._stream = stream
        self._readers = [
            ResponseReader(choice, plan.format, plan.tools, plan.thinking) for choice in range(plan.generation.choices)
        ]

    async def __aiter__(self) -> AsyncIterator[ChatEvent]:
        async for event in self._stream:
            if isinstance(event, Started):
                yield event
                continue
            reader = self._readers[event.choice]
            parts = reader.read(event.text, event.tokens) if isinstance(event, Delta) else reader.finish()
            for part in parts:
                yield part
            if isinstance(event, Ended):
                yield event

    def cancel(self) -> None:
        """Stop the work; harmless if it has ended."""
        self._stream.cancel()


async def start_chat(service: Service, request: ChatRequest) -> ChatStream:
    """Queue a chat request. Raises what `Service.start` raises, TemplateRefusal and UserError, before any answer."""
    served = service.model(request.model)
    # Tokenizing and compiling a schema take milliseconds: not on the event loop.
    plan = await asyncio.to_thread(chat_plan, served, request)
    return ChatStream(await service.start(plan.generation), plan)


def chat_prompt(served: ServedModel, request: ChatRequest) -> tuple[int, ...]:
    """Token ids of the prompt of a request. Raises TemplateRefusal and UserError."""
    messages = request.messages
    _check_messages(messages)
    chat = _with_variables(served.chat, request.variables)
    continued = ""
    if messages[-1].role == ASSISTANT:
        messages, last = messages[:-1], messages[-1]
        continued = last.content
        if last.tool_calls:
            raise UserError(
                "the last message calls tools whose results are missing",
                f"messages[{len(messages)}]",
                "send a message with the role tool for each call",
            )
    try:
        ids = _prompt_ids(chat, messages, _offered(request))
    except RecursionError as error:
        raise UserError("tools or arguments are nested too deeply", "tools", "flatten them") from error
    if not continued:
        return ids
    return (*ids, *chat.tokenizer.backend.encode(replace_surrogates(continued), at_start=False).ids)


def chat_plan(served: ServedModel, request: ChatRequest) -> ChatPlan:
    """The generation that answers a request. Raises TemplateRefusal and UserError."""
    chat, tools = served.chat, _offered(request)
    _check_bias(request, chat.vocabulary_size)
    prompt = chat_prompt(served, request)
    format = _format(chat) if tools else None
    ids = chat.tokenizer.id_of
    stops = list(chat.response_stops)
    markers = [OPEN_THOUGHT, CLOSE_THOUGHT]
    if format is not None:
        markers += format.markers
        stops += [index for index in map(ids, format.ends) if index is not None and index in chat.never_sampled]
    shown = {index for index in map(ids, markers) if index is not None and index in chat.never_sampled}
    thoughts = _thoughts(chat, prompt)
    grammar = _grammar(chat, request, tools, thoughts)
    generation = Generation(
        model=served.name,
        prompt=prompt,
        limit=request.limit,
        sampling=banning(request.sampling, chat.never_sampled - shown, stops),
        seed=request.seed,
        choices=request.choices,
        stop=frozenset(stops),
        stop_texts=request.stop_texts,
        special=bool(shown),
        alternatives=request.alternatives,
        constraint=None if grammar is None else lambda: grammar.constraint(stops),
        seconds=request.seconds,
    )
    names = frozenset(tool.name for tool in tools)
    return ChatPlan(generation=generation, format=format, tools=names, thinking=thoughts == "open")


def _with_variables(chat: ChatModel, variables: Mapping[str, Any]) -> ChatModel:
    """The chat with a request's variables in its template. Raises UserError for those that rendering sets."""
    check_names(variables, "chat_template_kwargs")
    if not variables or chat.template is None:
        return chat
    return replace(chat, template=with_variables(chat.template, variables))


def _offered(request: ChatRequest) -> tuple[Tool, ...]:
    """The tools that the model is told of. Raises UserError if a call is required without any."""
    if isinstance(request.tool_choice, Tool):
        chosen = request.tool_choice
        return request.tools if chosen in request.tools else (*request.tools, chosen)
    if request.tool_choice == "required" and not request.tools:
        raise UserError("a tool call is required, but there are no tools", "tool_choice", "send tools")
    return () if request.tool_choice == "none" else request.tools


def _format(chat: ChatModel) -> ToolFormat:
    return format_of(chat.template) if chat.style == CHAT else LINES


def _prompt_ids(chat: ChatModel, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> tuple[int, ...]:
    with_calls = bool(tools) or any(message.tool_calls or message.role == TOOL for message in messages)
    if not with_calls or _format(chat) == LINES:
        return _written_prompt(chat, messages, tools)
    definitions = [definition(tool) for tool in tools] or None
    try:
        return tuple(encode_tool_chat(chat.tokenizer, chat.own_template, turns_of(messages), definitions))
    except TemplateRefusal:
        split = one_call_each(messages)
        if split == list(messages):
            raise
        return tuple(encode_tool_chat(chat.tokenizer, chat.own_template, turns_of(split), definitions))


def _written_prompt(chat: ChatModel, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> tuple[int, ...]:
    """The prompt of a template without tools: calls and results are text, as in our training data."""
    names = call_names(messages)
    turns: Sequence[Message] = [_written(message, names) for message in messages]
    if tools:
        turns = with_tools(turns, tools_text([definition(tool) for tool in tools]))
    if chat.style != CHAT:
        return chat.styled_prompt(turns)
    if chat.template is None:
        raise UserError(
            "this model has no chat template",
            chat.name,
            "use its instruction-tuned version, or /v1/completions for plain text",
        )
    return chat.prompt_ids(turns)


def _written(message: ChatMessage, names: dict[str, str]) -> Message:
    calls = [call_text(call.name, parsed(call.arguments)) for call in message.tool_calls]
    text = "\n".join([*([message.content] if message.content or not calls else []), *calls])
    name = names.get(message.tool_call_id) if message.role == TOOL else None
    return Message(message.role, f"{name}: {text}" if name else text)


def _thoughts(chat: ChatModel, prompt: Sequence[int]) -> Thoughts:
    """Whether the response begins inside <think>, may open it, or is not to think."""
    end = chat.tokenizer.decode(prompt[-TAIL:], skip_special=False).rstrip()
    if end.endswith(OPEN_THOUGHT):
        return "open"
    written = chat.template is not None and OPEN_THOUGHT in chat.template.source
    return "allowed" if written and not end.endswith(CLOSE_THOUGHT) else "none"


def _grammar(chat: ChatModel, request: ChatRequest, tools: Sequence[Tool], thoughts: Thoughts) -> Grammar | None:
    """The grammar of the response; None if it is free."""
    schema, rows = request.schema, chat.vocabulary_size
    named = request.tool_choice if isinstance(request.tool_choice, Tool) else None
    required = named is not None or request.tool_choice == "required"
    if schema is not None and not required:
        plain = schema_grammar(chat.tokenizer, rows, schema)  # also names the part of a schema that is not valid
        if not tools and thoughts == "none":
            return plain
    if not tools and schema is None:
        return None
    format = _format(chat)
    prefix = chat.tokenizer.id_of(format.prefix) if format.prefix else None
    lark = response_grammar(
        format,
        tools if named is None else (named,),
        required=required,
        single=named is not None,
        schema=schema,
        thoughts=thoughts,
        prefix=prefix if prefix in chat.tokenizer.special_ids else None,
    )
    return None if lark is None else lark_grammar(chat.tokenizer, rows, lark)


def _check_messages(messages: Sequence[ChatMessage]) -> None:
    """Templates write roles as they are, so a role of one's own could hold special tokens."""
    if not messages:
        raise UserError("there are no messages", "messages", "send at least one user message")
    for place, message in enumerate(messages):
        if message.role not in ROLES:
            raise UserError(
                f"unknown role {message.role[:40]!r}", f"messages[{place}].role", f"use one of {', '.join(ROLES)}"
            )


def _check_bias(request: ChatRequest, rows: int) -> None:
    outside = [index for index, _ in request.sampling.logit_bias if not 0 <= index < rows]
    if outside:
        raise UserError(
            f"logit_bias has ids outside the vocabulary of {rows:,} tokens",
            "logit_bias",
            "use token ids of this model",
            details=shortened(outside),
        )
