"""The body of OpenAI's responses, and how its items become messages."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from mlx_suite.serving.chat import ChatMessage, ChatRequest, Tool, ToolCall
from mlx_suite.serving.service import ServedModel

from .errors import ParameterError
from .openai_messages import (
    ANY_OBJECT,
    ROLES,
    ContentPart,
    Function,
    check_arguments,
    checked_tool,
    chosen_mode,
    content_text,
    named_tool,
)
from .openai_parameters import MAX_ALTERNATIVES, Body, Count, JsonObject, SamplingParameters

REFUSED = {
    "background": "leave it out: the response is written while the client waits",
    "conversation": "send previous_response_id",
    "prompt": "send input and instructions",
    "max_tool_calls": "leave it out: the client calls the tools",
}
LOGPROBS = "message.output_text.logprobs"
"""The entry of `include` that asks for log-probabilities."""


class InputItem(Body):
    """A message, a call of a function, its output, or reasoning."""

    type: str = "message"
    role: str = ""
    content: str | list[ContentPart] = ""
    call_id: str = ""
    name: str = ""
    arguments: str = "{}"
    output: str | list[ContentPart] = ""


class ResponseTool(Function):
    """A function that the model may call."""

    type: str
    name: str = ""


class FunctionChoice(Body):
    """A choice of tool by name."""

    type: str
    name: str = ""


class TextFormat(Body):
    """What the response's text must be."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str = ""
    schema_: JsonObject = Field(default={}, alias="schema")


class TextSettings(Body):
    """Settings of the response's text."""

    format: TextFormat = TextFormat()


class ResponseBody(SamplingParameters):
    """The body of a request for a response."""

    input: str | list[InputItem] = []
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool = True
    stream: bool = False
    max_output_tokens: Count | None = None
    text: TextSettings = TextSettings()
    tools: list[ResponseTool] = []
    tool_choice: str | FunctionChoice = "auto"
    parallel_tool_calls: bool = True
    include: list[str] = []
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_ALTERNATIVES)] = 0
    metadata: dict[str, str] = {}
    chat_template_kwargs: JsonObject = {}

    @property
    def reports_logprobs(self) -> bool:
        return LOGPROBS in self.include or self.top_logprobs > 0

    def messages(self) -> tuple[ChatMessage, ...]:
        """The input's messages, without instructions. Raises ParameterError."""
        if isinstance(self.input, str):
            return (ChatMessage(role="user", content=self.input),)
        return input_messages(self.input)

    def request(self, served: ServedModel, conversation: Sequence[ChatMessage]) -> ChatRequest:
        """The request for the chat layer. Raises ParameterError."""
        self.refuse(REFUSED)
        if not conversation:
            raise ParameterError("input", "input is empty", "send a text or at least one item")
        system = [ChatMessage(role="system", content=self.instructions)] if self.instructions else []
        tools = self._tools()
        return ChatRequest(
            model=served.name,
            messages=tuple(_one_system([*system, *conversation])),
            tools=tools,
            tool_choice=self._tool_choice(tools),
            schema=self._schema(),
            limit=self.max_output_tokens,
            sampling=self.sampling(served),
            seed=self.seed,
            alternatives=self.top_logprobs if self.reports_logprobs else None,
            variables=self.chat_template_kwargs,
        )

    def described(self) -> dict[str, Any]:
        """The settings as the response's object repeats them."""
        choice = self.tool_choice
        return {
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata,
            "parallel_tool_calls": self.parallel_tool_calls,
            "previous_response_id": self.previous_response_id,
            "reasoning": {"effort": None, "summary": None},
            "store": self.store,
            "temperature": self.temperature,
            "text": {"format": self._format()},
            "tool_choice": choice if isinstance(choice, str) else {"type": choice.type, "name": choice.name},
            "tools": [_described_tool(tool) for tool in self.tools],
            "top_logprobs": self.top_logprobs,
            "top_p": self.top_p,
            "truncation": "disabled",
        }

    def _tools(self) -> tuple[Tool, ...]:
        found: list[Tool] = []
        for place, tool in enumerate(self.tools):
            if tool.type != "function":
                raise ParameterError(
                    f"tools[{place}].type",
                    f"tools[{place}] is of type {tool.type[:40]!r}",
                    "only functions can be called",
                )
            found.append(checked_tool(tool, f"tools[{place}].name", found))
        return tuple(found)

    def _tool_choice(self, tools: Sequence[Tool]) -> Any:
        choice = self.tool_choice
        if isinstance(choice, str):
            return chosen_mode(choice, tools)
        if choice.type != "function":
            raise ParameterError("tool_choice", f"a tool_choice of type {choice.type[:40]!r} is not supported")
        return named_tool(choice.name, tools)

    def _schema(self) -> JsonObject | None:
        format = self.text.format
        if format.type == "json_schema":
            return format.schema_
        return ANY_OBJECT if format.type == "json_object" else None

    def _format(self) -> dict[str, Any]:
        format = self.text.format
        if format.type != "json_schema":
            return {"type": format.type}
        return {"type": format.type, "name": format.name, "schema": format.schema_, "strict": True}


def input_messages(items: Sequence[InputItem]) -> tuple[ChatMessage, ...]:
    """The messages of items; calls belong to the assistant's turn before them. Raises ParameterError."""
    messages: list[ChatMessage] = []
    for place, item in enumerate(items):
        param = f"input[{place}]"
        match item.type:
            case "message":
                messages.append(_message(item, param))
            case "function_call":
                messages = _with_call(messages, _call(item, param))
            case "function_call_output":
                if not item.call_id:
                    raise ParameterError(f"{param}.call_id", f"{param} does not say which call it answers")
                output = content_text(item.output, f"{param}.output")
                messages.append(ChatMessage(role="tool", content=output, tool_call_id=item.call_id))
            case "reasoning":
                pass  # a model does not read the reasoning of its earlier turns
            case _:
                raise ParameterError(f"{param}.type", f"{param} is of type {item.type[:40]!r}, which is not supported")
    return tuple(messages)


def _message(item: InputItem, param: str) -> ChatMessage:
    role = ROLES.get(item.role)
    if role is None or role == "tool":
        raise ParameterError(
            f"{param}.role", f"{item.role[:40]!r} is not a role", "use user, assistant, system or developer"
        )
    return ChatMessage(role=role, content=content_text(item.content, f"{param}.content"))


def _call(item: InputItem, param: str) -> ToolCall:
    if not item.call_id or not item.name:
        raise ParameterError(f"{param}.call_id", f"{param} needs call_id and name")
    check_arguments(item.arguments, f"{param}.arguments")
    return ToolCall(id=item.call_id, name=item.name, arguments=item.arguments or "{}")


def _with_call(messages: Sequence[ChatMessage], call: ToolCall) -> list[ChatMessage]:
    if messages and messages[-1].role == "assistant":
        last = messages[-1]
        return [*messages[:-1], replace(last, tool_calls=(*last.tool_calls, call))]
    return [*messages, ChatMessage(role="assistant", tool_calls=(call,))]


def _one_system(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Instructions and a system message that follows them as one turn, since templates take only one."""
    if len(messages) > 1 and messages[0].role == messages[1].role == "system":
        joined = replace(messages[0], content=f"{messages[0].content}\n\n{messages[1].content}")
        return _one_system([joined, *messages[2:]])
    return list(messages)


def _described_tool(tool: ResponseTool) -> dict[str, Any]:
    described = {"type": "function", "name": tool.name, "description": tool.description}
    return {**described, "parameters": tool.parameters, "strict": True}
