"""OpenAI's responses: POST /v1/responses, and GET and DELETE /v1/responses/{id}."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from mlx_suite.serving.chat import ChatMessage
from mlx_suite.serving.chat_service import ChatStream, start_chat

from .answering import while_connected
from .app import ServiceOf
from .errors import OPENAI_ERRORS, ParameterError, openai_error
from .json_body import JsonRoute
from .response_store import ResponseStore, StoredResponse
from .response_writer import ResponseWriter
from .responses_request import ResponseBody
from .sse import EventStream, sse_event

router = APIRouter(route_class=JsonRoute, tags=["OpenAI"], responses=OPENAI_ERRORS)


def _responses(request: Request) -> ResponseStore:
    return cast(ResponseStore, request.app.state.responses)


ResponsesOf = Annotated[ResponseStore, Depends(_responses)]


class _Answer:
    """A response that is being written, and stored once it is complete."""

    def __init__(
        self,
        stream: ChatStream,
        writer: ResponseWriter,
        store: ResponseStore | None,
        conversation: tuple[ChatMessage, ...],
    ) -> None:
        self._stream, self._writer, self._store, self._conversation = stream, writer, store, conversation

    async def whole(self) -> dict[str, Any]:
        """The response's object after the last event."""
        async for event in self._stream:
            for _ in self._writer.write(event):
                pass  # only the object counts
        self._keep()
        return self._writer.response

    async def events(self) -> AsyncIterator[str]:
        """The server-sent events."""
        for event in self._writer.begin():
            yield sse_event(event, event["type"])
        try:
            async for chat_event in self._stream:
                for event in self._writer.write(chat_event):
                    if event["type"] in ("response.completed", "response.incomplete"):
                        self._keep()  # before the client knows the end: it may continue at once
                    yield sse_event(event, event["type"])
        except Exception as error:  # the status is already sent
            for event in self._writer.fail(openai_error(error)):
                yield sse_event(event, event["type"])

    def _keep(self) -> None:
        if self._store is not None:
            messages = (*self._conversation, *self._writer.messages())
            self._store.add(StoredResponse(body=self._writer.response, messages=messages))


@router.post("/v1/responses", response_model=None)
async def create_response(body: ResponseBody, request: Request, service: ServiceOf, store: ResponsesOf) -> Response:
    """The next turn of a conversation."""
    served = service.model(body.model)
    conversation = (*_earlier(body, store), *body.messages())
    stream = await start_chat(service, body.request(served, conversation))
    answer = _Answer(stream, ResponseWriter(body, served), store if body.store else None, conversation)
    if body.stream:
        return EventStream(answer.events(), stream)
    return JSONResponse(await while_connected(request, stream, answer.whole()))


@router.get("/v1/responses/{response_id}", response_model=None)
async def get_response(response_id: str, store: ResponsesOf) -> Response:
    """A stored response."""
    stored = store.get(response_id)
    if stored is None:
        raise _unknown(response_id)
    return JSONResponse(stored.body)


@router.delete("/v1/responses/{response_id}", response_model=None)
async def delete_response(response_id: str, store: ResponsesOf) -> Response:
    """Delete a stored response; responses that continue it keep its text."""
    if not store.delete(response_id):
        raise _unknown(response_id)
    return JSONResponse({"id": response_id, "object": "response", "deleted": True})


def _earlier(body: ResponseBody, store: ResponseStore) -> tuple[ChatMessage, ...]:
    """The conversation that the request continues. Raises ParameterError."""
    if body.previous_response_id is None:
        return ()
    stored = store.get(body.previous_response_id)
    if stored is None:
        raise ParameterError(
            "previous_response_id",
            f"no response {body.previous_response_id[:80]!r} is stored",
            "send the whole conversation as input",
        )
    return stored.messages


def _unknown(name: str) -> HTTPException:
    return HTTPException(404, f"no response {name[:80]!r} is stored")
