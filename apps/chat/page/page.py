"""The page: its files, its events, and the routes under `/page`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from mlx_suite import __version__

from . import compare, conversations, magpie, messages, static_files, tokens
from .desk import DeskOf, PageRoute, desk_lifespan
from .events import event_stream
from .forms import model_forms
from .sampling import SamplingSettings

router = APIRouter(lifespan=desk_lifespan, route_class=PageRoute)


@router.get("/page/setup")
def setup(desk: DeskOf) -> dict[str, Any]:
    """The served models and the default settings."""
    return {
        "models": model_forms(desk.service),
        "defaults": SamplingSettings().model_dump(),
        "version": __version__,
    }


@router.get("/page/events", include_in_schema=False)  # without end: nothing to try out
async def events(desk: DeskOf, watch: Annotated[list[int] | None, Query()] = None) -> StreamingResponse:
    """Events without end: conversations that change, and the text of responses in those that are watched."""

    async def stream() -> AsyncIterator[str]:
        async for event in event_stream(desk.hub, lambda: desk.replies.watched(watch or ())):
            yield event

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


for part in (static_files, conversations, messages, compare, tokens, magpie):
    router.include_router(part.router)
