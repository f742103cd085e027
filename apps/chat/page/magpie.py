"""Routes of Magpie: sessions, their rows as they are written, verdicts, and export."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from ..api.sse import sse_event
from .conversations import Form
from .desk import DeskOf, PageRoute
from .magpie_file import SessionSettings
from .magpie_session import MOST_ROWS

router = APIRouter(prefix="/page/magpie", route_class=PageRoute)


class NewSession(BaseModel):
    """A session to be started."""

    model_config = ConfigDict(extra="forbid")

    model: str = ""
    rows: int = Field(default=20, ge=1, le=MOST_ROWS)
    temperature: float = Field(default=1.0, ge=0, le=2)
    category: str | None = None
    max_answer: int = Field(default=1024, ge=1, le=100_000)
    seed: int | None = Field(default=None, ge=0, lt=1 << 63)


class MoreRows(BaseModel):
    """A continuation."""

    model_config = ConfigDict(extra="forbid")

    rows: int = Field(default=0, ge=0, le=MOST_ROWS)
    """0 asks only what a stop interrupted."""


class NewVerdict(BaseModel):
    """A person's verdict on a row."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["keep", "reject"] | None
    """None takes it back."""


@router.get("")
async def sessions(desk: DeskOf) -> Form:
    """The sessions, the newest first, and the categories of each model."""
    magpie = desk.magpie
    return {"sessions": list(await asyncio.to_thread(magpie.names)), "categories": dict(magpie.options())}


@router.post("", status_code=201)
async def start(desk: DeskOf, new: NewSession) -> Form:
    """Start a session; the others are stopped."""
    settings = SessionSettings(
        model=new.model,
        temperature=new.temperature,
        category=new.category,
        max_answer=new.max_answer,
        seed=secrets.randbelow(1 << 31) if new.seed is None else new.seed,
    )
    session = await desk.magpie.start(settings, new.rows)
    return session.state()


@router.get("/{name}/events")
async def events(desk: DeskOf, name: str) -> StreamingResponse:
    """A session as it is, then all its changes."""
    session = await desk.magpie.session(name)

    async def stream() -> AsyncIterator[str]:
        async for event, data in session.events():
            yield sse_event(data, event)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


@router.post("/{name}/ask")
async def ask(desk: DeskOf, name: str, more: MoreRows) -> Form:
    """Ask more rows, or go on after a stop."""
    session = await desk.magpie.session(name)
    await session.ask(more.rows)
    return session.state()


@router.post("/{name}/stop")
async def stop(desk: DeskOf, name: str) -> Form:
    """Stop asking; rows in flight are dropped."""
    session = await desk.magpie.session(name)
    session.stop()
    return session.state()


@router.post("/{name}/rows/{index}")
async def judge(desk: DeskOf, name: str, index: int, new: NewVerdict) -> Form:
    """Keep or reject a row by hand."""
    session = await desk.magpie.session(name)
    return session.judge(index, new.verdict).as_json()


@router.delete("/{name}")
async def delete(desk: DeskOf, name: str) -> Form:
    """Delete a session and its file."""
    await desk.magpie.delete(name)
    return {"name": name}


@router.get("/{name}/export")
async def export(desk: DeskOf, name: str, format: Literal["messages", "accepted"] = "messages") -> Response:
    """The kept rows as JSON lines: `messages` alone, or all that a run folder's `accepted.jsonl` holds."""
    session = await desk.magpie.session(name)
    rows: list[dict[str, Any]]
    if format == "messages":
        rows = [{"messages": row.messages()} for row in session.kept()]
    else:
        rows = await session.records()
    lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="magpie-{name}.jsonl"'}
    return Response(lines.encode(errors="replace"), media_type="application/jsonl; charset=utf-8", headers=headers)
