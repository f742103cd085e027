"""A request in Anthropic's Messages form, and the chat request that it stands for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from mlx_suite.engine import Sampling
from mlx_suite.serving.chat import ChatMessage, ChatRequest, Tool, ToolCall, ToolChoice
from mlx_suite.text.template_variables import THINKING

from .errors import ParameterError


class TextBlock(BaseModel):
    """Text."""

    type: Literal["text"]
    text: str


class ThinkingBlock(BaseModel):
    """The reasoning of an earlier turn; chat templates leave it out."""

    type: Literal["thinking", "redacted_thinking"]


class ToolUseBlock(BaseModel):
    """A call of a tool in an assistant turn."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class MediaBlock(BaseModel):
    """What models that read text only cannot take."""

    type: Literal["image", "document", "search_result", "container_upload"]


class ToolResultBlock(BaseModel):
    """What a tool answered, in a user turn."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[Annotated[TextBlock | MediaBlock, Field(discriminator="type")]] = ""


Block = Annotated[TextBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock | MediaBlock, Field(discriminator="type")]


class AnthropicMessage(BaseModel):
    """A turn."""

    role: Literal["user", "assistant"]
    content: str | list[Block]


class AnthropicTool(BaseModel):
    """A tool of the client's. Tools that run on Anthropic's servers have another type."""

    name: str = Field(min_length=1)
    description: str = ""
    input_schema: dict[str, Any] = {}
    type: str | None = None


class AnthropicToolChoice(BaseModel):
    """Whether and which tools are called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None


class OutputFormat(BaseModel):
    """The schema of a response."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(BaseModel):
    """The form of a response."""

    format: OutputFormat | None = None


class Thinking(BaseModel):
    """Whether the model is to reason; `adaptive` leaves it to the chat template."""

    type: Literal["enabled", "disabled", "adaptive"]


class CountBody(BaseModel):
    """A prompt to count."""

    model: str
    messages: list[AnthropicMessage] = Field(min_length=1)
    system: str | list[TextBlock] = ""
    tools: list[AnthropicTool] = []
    tool_choice: AnthropicToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None


class MessagesBody(CountBody):
    """A request for the next assistant turn."""

    max_tokens: int = Field(ge=1, le=2**31)
    stream: bool = False
    stop_sequences: list[str] = Field(default=[], max_length=100)
    temperature: float = Field(default=1.0, ge=0.0, le=2.0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0, allow_inf_nan=False)
    top_k: int = Field(default=0, ge=0, le=2**31)


def prompt_request(body: CountBody) -> ChatRequest:
    """The chat request of a prompt. Raises ParameterError for blocks and tools that cannot be served."""
    system = body.system if isinstance(body.system, str) else "\n".join(block.text for block in body.system)
    first = [ChatMessage(role="system", content=system)] if system else []
    turns = [turn for place, message in enumerate(body.messages) for turn in _turns(message, f"messages[{place}]")]
    tools = tuple(_tool(tool) for tool in body.tools)
    form = body.output_config.format if body.output_config else None
    return ChatRequest(
        model=body.model,
        messages=tuple(_joined([*first, *turns])),
        tools=tools,
        tool_choice=_tool_choice(body.tool_choice, tools),
        schema=form.schema_ if form else None,
        variables=_variables(body.thinking),
    )


def message_request(body: MessagesBody) -> ChatRequest:
    """The chat request of a body. Raises like `prompt_request`, and for an empty stop sequence."""
    if not all(body.stop_sequences):
        raise ParameterError("stop_sequences", "stop_sequences: a stop sequence is empty")
    return replace(
        prompt_request(body),
        limit=body.max_tokens,
        sampling=Sampling(temperature=body.temperature, top_p=body.top_p, top_k=body.top_k),
        stop_texts=tuple(body.stop_sequences),
    )


def _variables(thinking: Thinking | None) -> dict[str, Any]:
    """Variables of the chat template for a wish to reason or not."""
    if thinking is None or thinking.type == "adaptive":
        return {}
    return {THINKING: thinking.type == "enabled"}


def _turns(message: AnthropicMessage, where: str) -> list[ChatMessage]:
    """A turn; results of tools are turns of their own before it."""
    blocks = [TextBlock(type="text", text=message.content)] if isinstance(message.content, str) else message.content
    texts: list[str] = []
    calls: list[ToolCall] = []
    results: list[ChatMessage] = []
    for place, block in enumerate(blocks):
        at = f"{where}.content[{place}]"
        match block:
            case TextBlock():
                texts.append(block.text)
            case ToolUseBlock():
                _only_in("assistant", message.role, block.type, at)
                calls.append(ToolCall(id=block.id, name=block.name, arguments=json.dumps(block.input)))
            case ToolResultBlock():
                _only_in("user", message.role, block.type, at)
                content = _result_text(block, at)
                results.append(ChatMessage(role="tool", content=content, tool_call_id=block.tool_use_id))
            case MediaBlock():
                raise _no_media(block, at)
            case ThinkingBlock():
                _only_in("assistant", message.role, block.type, at)
    if results and not texts:
        return results
    return [*results, ChatMessage(role=message.role, content="\n".join(texts), tool_calls=tuple(calls))]


def _joined(turns: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Consecutive turns of one role are one turn, as in Anthropic's API; results of tools stay apart."""
    joined: list[ChatMessage] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role != "tool":
            before = joined.pop()
            content = "\n".join(text for text in (before.content, turn.content) if text)
            calls = (*before.tool_calls, *turn.tool_calls)
            turn = ChatMessage(role=turn.role, content=content, tool_calls=calls)
        joined.append(turn)
    return joined


def _result_text(block: ToolResultBlock, where: str) -> str:
    if isinstance(block.content, str):
        return block.content
    for place, part in enumerate(block.content):
        if isinstance(part, MediaBlock):
            raise _no_media(part, f"{where}.content[{place}]")
    return "\n".join(part.text for part in block.content if isinstance(part, TextBlock))


def _only_in(role: str, found: str, kind: str, where: str) -> None:
    if role != found:
        raise ParameterError(where, f"{where}: a {kind} block belongs in a turn of the {role}, not of the {found}")


def _no_media(block: MediaBlock, where: str) -> ParameterError:
    return ParameterError(where, f"{where}: {block.type} blocks are not supported, the model reads text only")


def _tool(tool: AnthropicTool) -> Tool:
    if tool.type not in (None, "custom"):
        raise ParameterError("tools", f"tools: {tool.type!r} runs on Anthropic's servers and is not available here")
    schema: Mapping[str, Any] = tool.input_schema
    return Tool(name=tool.name, description=tool.description, parameters=schema)


def _tool_choice(choice: AnthropicToolChoice | None, tools: Sequence[Tool]) -> ToolChoice | Tool:
    if choice is None or choice.type == "auto":
        return "auto"
    if choice.type == "none":
        return "none"
    if not tools:
        raise ParameterError("tool_choice", f"tool_choice: {choice.type!r} needs tools")
    if choice.type == "any":
        return "required"
    for tool in tools:
        if tool.name == choice.name:
            return tool
    raise ParameterError("tool_choice", f"tool_choice: no tool is named {choice.name!r}")
