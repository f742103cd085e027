"""Messages, tools and response formats as OpenAI's clients send them, and as the chat layer takes them."""

import json
import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from mlx_suite.serving.chat import ChatMessage, Tool, ToolCall, ToolChoice

from .errors import ParameterError
from .openai_parameters import Body, JsonObject

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
TEXT_PARTS = ("text", "input_text", "output_text")
TOOL_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
ANY_OBJECT: JsonObject = {"type": "object"}


class ContentPart(Body):
    """A part of a message's content; only parts with text are supported."""

    type: str
    text: str = ""
    refusal: str = ""


class FunctionCall(Body):
    """Name and arguments of a call."""

    name: str
    arguments: str = "{}"


class MessageToolCall(Body):
    """A call in an assistant's message."""

    id: str
    type: str = "function"
    function: FunctionCall


class RequestMessage(Body):
    """A turn of the conversation."""

    role: str
    content: str | list[ContentPart] = ""
    tool_calls: list[MessageToolCall] = []
    tool_call_id: str = ""


class Function(Body):
    """A function that the model may call."""

    name: str
    description: str = ""
    parameters: JsonObject = {}


class RequestTool(Body):
    """A tool of a chat request."""

    type: str
    function: Function | None = None


class NamedFunction(Body):
    """The function that must be called."""

    name: str


class NamedTool(Body):
    """A choice of tool by name."""

    type: str
    function: NamedFunction | None = None


class JsonSchema(Body):
    """A schema for the response's text."""

    name: str = ""
    schema_: JsonObject = Field(default={}, alias="schema")


class ResponseFormat(Body):
    """What the response's text must be."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def schema_of_text(self) -> JsonObject | None:
        """The JSON schema of the text; None for free text. Raises ParameterError."""
        if self.type == "json_schema":
            if self.json_schema is None:
                raise ParameterError("response_format.json_schema", "response_format has no json_schema")
            return self.json_schema.schema_
        return ANY_OBJECT if self.type == "json_object" else None


def content_text(content: str | Sequence[ContentPart], param: str) -> str:
    """The text of a content. Raises ParameterError for pictures, sound and files."""
    if isinstance(content, str):
        return content
    texts = []
    for place, part in enumerate(content):
        if part.type == "refusal":
            texts.append(part.refusal)
        elif part.type in TEXT_PARTS:
            texts.append(part.text)
        else:
            raise ParameterError(
                f"{param}[{place}]",
                f"{param}[{place}] is of type {part.type[:40]!r}, but the model reads text only",
                "send parts of type 'text'",
            )
    return "".join(texts)


def chat_messages(messages: Sequence[RequestMessage]) -> tuple[ChatMessage, ...]:
    """The conversation for the chat layer. Raises ParameterError."""
    if not messages:
        raise ParameterError("messages", "messages is empty", "send at least one message")
    return tuple(_message(message, f"messages[{place}]") for place, message in enumerate(messages))


def _message(message: RequestMessage, param: str) -> ChatMessage:
    role = ROLES.get(message.role)
    if role is None:
        raise ParameterError(f"{param}.role", f"{message.role[:40]!r} is not a role", f"use one of {', '.join(ROLES)}")
    if message.tool_calls and role != "assistant":
        raise ParameterError(f"{param}.tool_calls", f"{param} has tool_calls, but its role is {message.role!r}")
    if role == "tool" and not message.tool_call_id:
        raise ParameterError(f"{param}.tool_call_id", f"{param} does not say which call it answers")
    return ChatMessage(
        role=role,
        content=content_text(message.content, f"{param}.content"),
        tool_calls=tuple(_call(call, f"{param}.tool_calls[{place}]") for place, call in enumerate(message.tool_calls)),
        tool_call_id=message.tool_call_id,
    )


def _call(call: MessageToolCall, param: str) -> ToolCall:
    check_arguments(call.function.arguments, f"{param}.function.arguments")
    return ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments or "{}")


def check_arguments(arguments: str, param: str) -> None:
    """Raises ParameterError if the arguments of a call are not a JSON object."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ParameterError(param, f"{param} is not a JSON object")


def chat_tools(tools: Sequence[RequestTool]) -> tuple[Tool, ...]:
    """Tools for the chat layer. Raises ParameterError."""
    found: list[Tool] = []
    for place, tool in enumerate(tools):
        if tool.type != "function" or tool.function is None:
            raise ParameterError(
                f"tools[{place}].type", f"tools[{place}] is not a function", "only functions can be called"
            )
        found.append(checked_tool(tool.function, f"tools[{place}].function.name", found))
    return tuple(found)


def checked_tool(function: Function, param: str, others: Sequence[Tool]) -> Tool:
    """A tool with a valid name that no other tool has. Raises ParameterError."""
    if not TOOL_NAME.fullmatch(function.name):
        raise ParameterError(
            param, f"{param} is {function.name[:80]!r}", "use 1 to 64 letters, digits, '_', '-' and '.'"
        )
    if any(other.name == function.name for other in others):
        raise ParameterError(param, f"two tools are named {function.name!r}")
    return Tool(name=function.name, description=function.description, parameters=function.parameters)


def tool_choice(choice: str | NamedTool, tools: Sequence[Tool]) -> ToolChoice | Tool:
    """The choice for the chat layer. Raises ParameterError."""
    if isinstance(choice, str):
        return chosen_mode(choice, tools)
    if choice.type != "function" or choice.function is None:
        raise ParameterError("tool_choice", f"a tool_choice of type {choice.type[:40]!r} is not supported")
    return named_tool(choice.function.name, tools)


def chosen_mode(choice: str, tools: Sequence[Tool]) -> ToolChoice:
    """`auto`, `none` or `required`. Raises ParameterError."""
    modes: dict[str, ToolChoice] = {"auto": "auto", "none": "none", "required": "required"}
    if choice not in modes:
        raise ParameterError(
            "tool_choice", f"tool_choice is {choice[:40]!r}", f"use one of {', '.join(modes)}, or a function"
        )
    if choice == "required" and not tools:
        raise ParameterError("tool_choice", "tool_choice is 'required', but there are no tools", "send tools")
    return modes[choice]


def named_tool(name: str, tools: Sequence[Tool]) -> Tool:
    """The tool with this name. Raises ParameterError."""
    for tool in tools:
        if tool.name == name:
            return tool
    raise ParameterError("tool_choice", f"tool_choice names {name[:80]!r}, which is not among the tools")
