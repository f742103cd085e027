"""The answer to OpenAI's completions of either kind: in chunks, or whole."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, Protocol, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from .answering import Cancellable, while_connected
from .errors import openai_error
from .openai_parameters import StreamOptions
from .sse import DONE, EventStream, sse_event

Event = TypeVar("Event")
EventIn = TypeVar("EventIn", contravariant=True)
EventOut = TypeVar("EventOut", covariant=True)


class Work(Cancellable, AsyncIterable[EventOut], Protocol[EventOut]):
    """The events of a completion."""


class Completion(Protocol[EventIn]):
    """A completion that is put together from events."""

    def add(self, event: EventIn) -> Any:
        """Add an event."""
        ...

    def chunk(self, event: EventIn) -> str | None:
        """Add an event; the chunk to send for it."""
        ...

    def usage_chunk(self) -> str:
        """The chunk with the count of tokens."""
        ...

    def whole(self) -> dict[str, Any]:
        """The completion after its last event."""
        ...


async def completion_answer(
    request: Request,
    work: Work[Event],
    completion: Completion[Event],
    *,
    options: StreamOptions | None,
    first: Iterable[str] = (),
) -> Response:
    """Send a completion.

    Args:
        options: Of a stream; None for the completion in one piece.
        first: Chunks before those of events.
    """
    if options is not None:
        return EventStream(_chunks(work, completion, options.include_usage, first), work)

    async def read() -> None:
        async for event in work:
            completion.add(event)

    await while_connected(request, work, read())
    return JSONResponse(completion.whole())


async def _chunks(
    work: Work[Event], completion: Completion[Event], include_usage: bool, first: Iterable[str]
) -> AsyncIterator[str]:
    try:
        for chunk in first:
            yield chunk
        async for event in work:
            if text := completion.chunk(event):
                yield text
    except Exception as error:  # the status is already sent
        yield sse_event({"error": openai_error(error)})
        return
    if include_usage:
        yield completion.usage_chunk()
    yield DONE
