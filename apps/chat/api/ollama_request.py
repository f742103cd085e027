"""Requests in Ollama's form, and the chat requests that they stand for."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from mlx_suite.engine import Sampling
from mlx_suite.serving.chat import ChatMessage, ChatRequest, Tool, ToolCall
from mlx_suite.serving.service import ServedModel, Service, UnknownModel
from mlx_suite.text.template_variables import THINKING

from .errors import ParameterError

Number = Annotated[float, Field(allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-100.0, le=100.0, allow_inf_nan=False)]
MAX_COUNT = 2**31
LATEST = ":latest"


class Options(BaseModel):
    """Settings of a response, with Ollama's defaults; a repetition penalty only if it is asked for."""

    num_predict: int = Field(default=-1, le=MAX_COUNT, description="Longest response in tokens; below 1 for no limit")
    num_ctx: int | None = Field(default=None, description="Accepted up to the model's context")
    temperature: Number = Field(default=0.8, ge=0.0, le=100.0)
    top_k: int = Field(default=40, ge=0, le=MAX_COUNT)
    top_p: Number = Field(default=0.9, gt=0.0, le=1.0)
    min_p: Number = Field(default=0.0, ge=0.0, le=1.0)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**64)
    stop: list[str] | str = []
    repeat_penalty: Number = Field(default=1.0, gt=0.0, le=100.0)
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0

    @property
    def limit(self) -> int | None:
        """Maximum tokens; None for as many as the context has room for."""
        return self.num_predict if self.num_predict > 0 else None

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """Texts that end a response. Raises ParameterError for an empty one."""
        texts = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        if not all(texts):
            raise ParameterError("options.stop", "options.stop: a stop text is empty")
        return texts

    @property
    def sampling(self) -> Sampling:
        """How tokens are sampled."""
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repeat_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
        )

    def check_context(self, served: ServedModel) -> None:
        """Raises ParameterError for a larger context than the model has."""
        context = served.chat.context
        if self.num_ctx is not None and self.num_ctx > context:
            problem = f"options.num_ctx is {self.num_ctx}, and the context of {served.name} is {context}"
            raise ParameterError("options.num_ctx", problem)


class OllamaFunction(BaseModel):
    """A call's function and its arguments."""

    name: str
    arguments: dict[str, Any] = {}


class OllamaCall(BaseModel):
    """A call of a tool."""

    id: str | None = None
    function: OllamaFunction


class OllamaMessage(BaseModel):
    """A turn."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = ""
    images: list[Any] | None = None
    tool_calls: list[OllamaCall] | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None


class OllamaToolFunction(BaseModel):
    """A tool's name and the schema of its arguments."""

    name: str = Field(min_length=1)
    description: str | None = ""
    parameters: dict[str, Any] | None = None


class OllamaTool(BaseModel):
    """A tool."""

    type: Literal["function"] | None = "function"
    function: OllamaToolFunction


class Asked(BaseModel):
    """What requests for a response have in common."""

    model: str
    stream: bool | None = True
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: Options | None = None
    think: bool | Literal["low", "medium", "high"] | None = None

    @property
    def settings(self) -> Options:
        """The options."""
        return self.options or Options()

    @property
    def schema_of_text(self) -> Mapping[str, Any] | None:
        """JSON schema of the response; {} for any JSON."""
        return {} if self.format == "json" else self.format if isinstance(self.format, dict) else None

    def request(
        self, name: str, messages: Sequence[ChatMessage], tools: Sequence[Tool] = (), images: Sequence[Any] = ()
    ) -> ChatRequest:
        """The chat request for these messages. Raises ParameterError for pictures."""
        if images:
            raise ParameterError("images", "images are not supported, the model reads text only")
        options = self.settings
        seed = None if options.seed is None or options.seed < 0 else options.seed
        return ChatRequest(
            model=name,
            messages=tuple(messages),
            tools=tuple(tools),
            schema=self.schema_of_text,
            limit=options.limit,
            sampling=options.sampling,
            seed=seed,
            stop_texts=options.stop_texts,
            variables={} if self.think is None else {THINKING: self.think is not False},
        )


class ChatBody(Asked):
    """A request for the next turn of a chat."""

    messages: list[OllamaMessage] = []
    tools: list[OllamaTool] | None = None

    def chat_request(self, name: str) -> ChatRequest:
        """The chat request of this body for a served model."""
        images = [image for message in self.messages for image in message.images or ()]
        tools = [
            Tool(
                name=each.function.name,
                description=each.function.description or "",
                parameters=each.function.parameters or {},
            )
            for each in self.tools or ()
        ]
        return self.request(name, _with_call_ids(self.messages), tools, images)


class GenerateBody(Asked):
    """A request for a response to one prompt."""

    prompt: str | None = ""
    system: str | None = ""
    raw: bool | None = False
    suffix: str | None = None
    template: str | None = None
    context: list[int] | None = None
    images: list[Any] | None = None

    def check(self) -> None:
        """Raises ParameterError for fields that would change the prompt and are not supported."""
        for name in ("suffix", "template", "context"):
            if getattr(self, name):
                raise ParameterError(name, f"{name} is not supported: send the prompt in full, or use /api/chat")
        if self.raw and self.schema_of_text is not None:
            raise ParameterError("format", "format needs the chat template: leave out raw")
        if self.raw and self.system:
            raise ParameterError("system", "system needs the chat template: leave out raw")

    def chat_request(self, name: str) -> ChatRequest:
        """The chat request of this body for a served model."""
        system = [ChatMessage(role="system", content=self.system)] if self.system else []
        turns = [*system, ChatMessage(role="user", content=self.prompt or "")]
        return self.request(name, turns, images=self.images or ())


class ShowBody(BaseModel):
    """A request for what is known of a model; older clients call the field `name`."""

    model: str = ""
    name: str = ""


def served_model(service: Service, name: str) -> ServedModel:
    """A served model, whose name may end in Ollama's tag `:latest`. Raises UnknownModel."""
    try:
        return service.model(name)
    except UnknownModel:
        if not name.endswith(LATEST):
            raise
        return service.model(name.removesuffix(LATEST))


def _with_call_ids(messages: Sequence[OllamaMessage]) -> list[ChatMessage]:
    """The turns; results of tools name their call, which in Ollama's form only their order and tool tell."""
    turns: list[ChatMessage] = []
    pending: list[ToolCall] = []
    count = 0
    for message in messages:
        calls = []
        for call in message.tool_calls or ():
            arguments = json.dumps(call.function.arguments)
            calls.append(ToolCall(id=call.id or f"call_{count}", name=call.function.name, arguments=arguments))
            count += 1
        pending += calls
        answered = message.tool_call_id or ""
        if message.role == "tool" and not answered:
            found = next((call for call in pending if message.tool_name in (None, call.name)), None)
            if found is not None:
                pending.remove(found)
                answered = found.id
        turns.append(
            ChatMessage(
                role=message.role, content=message.content or "", tool_calls=tuple(calls), tool_call_id=answered
            )
        )
    return turns
