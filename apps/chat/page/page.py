"""The page: its files, its events, and the routes under `/page`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import FileResponse, Response, StreamingResponse

from mlx_suite import __version__

from . import compare, conversations, magpie, messages, tokens
from .code_block import code_css
from .desk import DeskOf, PageRoute, desk_lifespan
from .events import event_stream
from .forms import model_forms
from .sampling import SamplingSettings

STATIC = Path(__file__).parent / "static"
FILES = {file.name: file for file in STATIC.iterdir() if file.is_file()}
_MEDIA = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Browsers ask each time whether a file has changed, so that an upgrade never mixes old and new modules.
_FRESH = {"Cache-Control": "no-cache"}

router = APIRouter(lifespan=desk_lifespan, route_class=PageRoute)


@router.get("/", include_in_schema=False)
def index() -> FileResponse:
    """The page itself; no key is needed to load it."""
    return _file("index.html")


@router.get("/page/static/code.css", include_in_schema=False)
def code_colours() -> Response:
    """Colours of code."""
    return Response(code_css(), media_type="text/css", headers=_FRESH)


@router.get("/page/static/{name}", include_in_schema=False)
def static(name: str) -> FileResponse:
    """A style sheet, a module or the icon."""
    return _file(name)


@router.get("/page/setup")
def setup(desk: DeskOf) -> dict[str, Any]:
    """The served models and the default settings."""
    return {
        "models": model_forms(desk.service),
        "defaults": SamplingSettings().model_dump(),
        "version": __version__,
    }


@router.get("/page/events")
async def events(desk: DeskOf, watch: Annotated[list[int] | None, Query()] = None) -> StreamingResponse:
    """Events without end: conversations that change, and the text of responses in those that are watched."""

    async def stream() -> AsyncIterator[str]:
        async for event in event_stream(desk.hub, lambda: desk.replies.watched(watch or ())):
            yield event

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


def _file(name: str) -> FileResponse:
    file = FILES.get(name)
    if file is None:
        raise HTTPException(404, f"there is no file {name}")
    return FileResponse(file, media_type=_MEDIA[file.suffix], headers=_FRESH)


for part in (conversations, messages, compare, tokens, magpie):
    router.include_router(part.router)
