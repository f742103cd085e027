"""What the routes of the page share: the store, the responses in progress, the listeners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.service import EngineFailure, Service
from mlx_suite.text.pieces import replace_surrogates

from ..store.conversation import Conversation, StoredMessage
from ..store.store import Store
from .events import Hub
from .forms import conversation_form, error_form
from .magpie_sessions import MagpieSessions
from .replies import Replies

MAGPIE_FOLDER = "magpie"
"""Name of the folder of Magpie sessions, beside the conversations."""


class Desk:
    """The page's side of a running server."""

    def __init__(self, service: Service, store: Store) -> None:
        self.service, self.store = service, store
        self.hub = Hub()
        self.replies = Replies(service, store, self.hub)
        self.scoring = asyncio.Lock()
        """Held while a response is scored: one at a time, so that only one more KV cache is needed."""
        self.magpie = MagpieSessions(service, store.file.parent / MAGPIE_FOLDER)

    def form(self, conversation: Conversation) -> dict[str, Any]:
        """A conversation as the page gets it."""
        return conversation_form(conversation, is_writing=self.replies.is_writing(conversation.id))

    def announce(self, conversation: Conversation, *, path: bool = False) -> dict[str, Any]:
        """Tell all tabs that a conversation is new or changed, and whether its messages are; return its form."""
        form = self.form(conversation)
        self.hub.publish("conversation", form)
        if path:
            self.hub.publish("path", {"conversation": conversation.id})
        return form

    async def path_to(self, message: StoredMessage) -> tuple[StoredMessage, ...]:
        """The messages from the first to this one."""
        return await asyncio.to_thread(self.store.path, message.conversation, message.id)


@asynccontextmanager
async def desk_lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The desk of an application with a store, from its start to its end; responses in progress are then stopped."""
    if app.state.store is None:
        yield
        return
    app.state.desk = Desk(app.state.service, app.state.store)
    try:
        yield
    finally:
        await app.state.desk.magpie.close()
        await app.state.desk.replies.stop_all()


def _desk(request: Request) -> Desk:
    desk = getattr(request.app.state, "desk", None)
    if desk is None:
        raise HTTPException(404, "this server has no page")
    return cast(Desk, desk)


DeskOf = Annotated[Desk, Depends(_desk)]
"""The desk, as an argument of a route."""


class PageRoute(APIRoute):
    """A route whose errors are JSON that the page can show: `{"error": {"code", "what", "fix", …}}`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except (UserError, EngineFailure) as error:
                status, form = error_form(error)
                return JSONResponse({"error": form}, status)
            except RequestValidationError as error:
                return JSONResponse({"error": _invalid(error)}, 422)

        return handle


def _invalid(error: RequestValidationError) -> dict[str, Any]:
    problems = error.errors()
    places = [".".join(map(str, each["loc"][1:])) or "the body" for each in problems]
    # The name of an unknown key may have half of a surrogate pair.
    details = [replace_surrogates(f"{place}: {each['msg']}") for place, each in zip(places, problems, strict=True)]
    return {"code": "invalid", "what": "A value is invalid", "details": details}
