"""A chat request, the same for every protocol, and the events that answer it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlx_suite.engine import Sampling
from mlx_suite.serving.generation import Ended, Started, Token

ToolChoice = Literal["auto", "none", "required"]


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A call of a tool by the model."""

    id: str
    """Identifies the call in the tool's result."""
    name: str
    arguments: str
    """JSON object, as text."""


@dataclass(frozen=True, kw_only=True)
class ChatMessage:
    """A turn as clients send it."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    """Calls that an assistant turn makes after its content."""
    tool_call_id: str = ""
    """The call that a `tool` turn answers."""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool that the model may call."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """JSON schema of the arguments."""


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A request for the next assistant turn."""

    model: str
    messages: tuple[ChatMessage, ...]
    """If the last one is the assistant's, the response continues it."""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | Tool = "auto"
    """A `Tool` must be called."""
    schema: Mapping[str, Any] | None = None
    """JSON schema of the response's text; {} for any JSON."""
    limit: int | None = None
    """Maximum tokens of a response; None for as many as the context has room for."""
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None
    choices: int = 1
    stop_texts: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Variables of the chat template, such as `{"enable_thinking": False}`."""
    alternatives: int | None = None
    """Report log-probabilities of tokens and of this many alternatives, at most 20."""
    seconds: float | None = None
    """Time limit; None for the server's."""


@dataclass(frozen=True, kw_only=True)
class TextDelta:
    """More of a response's text."""

    choice: int
    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReasoningDelta:
    """More of the text that a model writes in <think> tags before its response."""

    choice: int
    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ToolCallDelta:
    """The start of a tool call, or more of its arguments."""

    choice: int
    index: int
    """Number of the call in its response, from 0."""
    call: ToolCall
    """In the first delta of a call its id and name; `arguments` holds what is new."""
    tokens: tuple[Token, ...] = ()


ChatEvent = Started | TextDelta | ReasoningDelta | ToolCallDelta | Ended
