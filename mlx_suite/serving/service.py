"""The service: served models, and one thread that owns MLX and answers all requests."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mlx_suite.engine import Done, Request
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.generation import Event, Generation

Result = TypeVar("Result")


class UnknownModel(UserError):
    """No served model has the requested name."""


class QueueFull(UserError):
    """Too many requests are waiting."""

    retry_after: float = 1.0
    """Seconds after which it is worth trying again."""


class PromptTooLong(UserError):
    """The prompt leaves no room for a response in the model's context."""

    prompt_tokens: int = 0
    context: int = 0


class EngineFailure(Exception):
    """The engine failed while it worked on a request; later requests are not affected."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model that clients can ask for by name."""

    name: str
    chat: ChatModel
    """Tokenizer, chat template, context. Its model must only be used on the service's thread."""
    base: str
    """Name of the served model whose weights it uses; its own name without an adapter."""
    created: int
    """Time of loading, in seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """What a service is doing, and what it has done since it started."""

    running: int = 0
    """Choices in flight."""
    waiting: int = 0
    """Requests in the queue."""
    slots: int = 0
    """Choices that can be in flight at once."""
    kv_bytes: int = 0
    """Size of the KV caches of choices in flight."""
    prefix_bytes: int = 0
    """Size of the prefix caches."""
    requests: int = 0
    """Requests accepted."""
    prefilled: int = 0
    """Prompt tokens prefilled."""
    reused: int = 0
    """Prompt tokens found in a KV cache."""
    generated: int = 0
    """Tokens sampled or forced by a constraint."""
    failures: int = 0
    """Failures of the engine."""
    last_failure: str | None = None
    """The last one, in a line; None without one."""


class Stream(Protocol):
    """The events of one request. Iterating raises EngineFailure, or what a constraint raised."""

    def __aiter__(self) -> AsyncIterator[Event]: ...

    def cancel(self) -> None:
        """Stop the work; harmless if it has ended. The stream then ends with `cancelled`."""
        ...


class Service(Protocol):
    """What protocol adapters need. The event loop's side of it never touches MLX."""

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """By name; the first is the default."""
        ...

    def status(self) -> ServiceStatus:
        """Its load and its counters; never waits for the engine."""
        ...

    def model(self, name: str) -> ServedModel:
        """Raises UnknownModel. An empty name and `default` are the first model."""
        ...

    async def start(self, generation: Generation) -> Stream:
        """Queue a request. Raises UnknownModel, QueueFull, PromptTooLong, UserError before any work is done."""
        ...

    def submit(self, model: str, request: Request, on_done: Callable[[Done], None], tokens: int | None = None) -> None:
        """Queue any program, such as a Magpie row; `on_done` is called on the service's thread. Raises like `start`.

        Args:
            tokens: Maximum tokens of its sequence, for which memory is reserved. None: the model's context.
        """
        ...

    async def call(self, model: str, work: Callable[[ChatModel], Result]) -> Result:
        """The result of `work` with a served model, on the service's thread, between two decode steps."""
        ...

    async def embed(self, model: str, prompts: Sequence[tuple[int, ...]]) -> list[list[float]]:
        """For each prompt the hidden state of its last token after the final norm, scaled to length 1.

        Raises like `start`.
        """
        ...
