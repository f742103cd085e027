"""Routes of conversations: list, search, create, rename, change settings, delete, import, export."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from mlx_suite.runtime.errors import UserError

from ..store.transfer import export_json, export_markdown, export_messages, import_json
from .desk import DeskOf, PageRoute
from .forms import COMPARE, message_form
from .history import DROPPED
from .sampling import SamplingSettings

router = APIRouter(prefix="/page", route_class=PageRoute)

LONGEST_TITLE = 60
Form = dict[str, Any]
Format = Literal["json", "markdown", "messages"]
_MEDIA = {
    "json": ("application/json", "json"),
    "markdown": ("text/markdown", "md"),
    "messages": ("application/jsonl", "jsonl"),
}


class NewConversation(BaseModel):
    """A conversation to be created."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(default="", max_length=1000)
    model: str = ""
    system: str = ""
    settings: SamplingSettings = SamplingSettings()


class ChangedConversation(BaseModel):
    """New values of a conversation; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    title: str | None = Field(default=None, max_length=1000)
    model: str | None = None
    system: str | None = None
    settings: SamplingSettings | None = None
    dropped: int | None = Field(default=None, ge=0)


@router.get("/conversations")
async def conversations(desk: DeskOf) -> list[Form]:
    """All conversations, the last updated first."""
    return [desk.form(each) for each in await asyncio.to_thread(desk.store.conversations)]


@router.get("/search")
async def search(desk: DeskOf, q: str = "") -> list[Form]:
    """Conversations that contain every term, with an excerpt in pieces: a text, and whether it is a match."""
    hits = await asyncio.to_thread(desk.store.search, q)
    return [
        {"conversation": desk.form(hit.conversation), "message": hit.message, "excerpt": list(map(list, hit.excerpt))}
        for hit in hits
    ]


@router.post("/conversations", status_code=201)
async def create(desk: DeskOf, new: NewConversation) -> Form:
    """A new conversation without messages; its title is the start of the given one."""
    created = await asyncio.to_thread(
        desk.store.create, title_of(new.title), model=new.model, system=new.system, sampling=new.settings.changed()
    )
    return desk.announce(created)


@router.get("/conversations/{number}")
async def conversation(desk: DeskOf, number: int) -> Form:
    """A conversation with the messages of the path that is shown."""
    found = await asyncio.to_thread(desk.store.conversation, number)
    path = await asyncio.to_thread(desk.store.path, number)
    return {**desk.form(found), "messages": await asyncio.to_thread(lambda: [*map(message_form, path)])}


@router.patch("/conversations/{number}")
async def change(desk: DeskOf, number: int, new: ChangedConversation) -> Form:
    """Rename a conversation or change its settings."""
    old = await asyncio.to_thread(desk.store.conversation, number)
    sampling = dict(old.sampling)
    if new.settings is not None:
        sampling = {name: sampling[name] for name in (DROPPED, COMPARE) if name in sampling} | new.settings.changed()
    if new.dropped is not None:
        sampling[DROPPED] = new.dropped
    changed = await asyncio.to_thread(
        desk.store.change, number, title=new.title, model=new.model, system=new.system, sampling=sampling
    )
    return desk.announce(changed)


@router.delete("/conversations/{number}")
async def delete(desk: DeskOf, number: int) -> Form:
    """Delete a conversation; responses in progress are stopped first."""
    await desk.replies.stop_all(number)
    await asyncio.to_thread(desk.store.delete, number)
    desk.hub.publish("deleted", {"conversation": number})
    return {"conversation": number}


@router.get("/export")
async def export(
    desk: DeskOf,
    format: Format = "json",
    conversation: Annotated[list[int] | None, Query()] = None,
) -> Response:
    """Some conversations, or all, as a file."""
    numbers = conversation or [each.id for each in await asyncio.to_thread(desk.store.conversations)]
    if format == "json":
        text = await asyncio.to_thread(export_json, desk.store, numbers)
    elif format == "messages":
        text = await asyncio.to_thread(export_messages, desk.store, numbers)
    elif len(numbers) == 1:
        text = await asyncio.to_thread(export_markdown, desk.store, numbers[0])
    else:
        raise UserError("A Markdown file holds one conversation", fix="choose one conversation, or JSON")
    media, ending = _MEDIA[format]
    name = "conversations"
    if len(numbers) == 1:
        title = (await asyncio.to_thread(desk.store.conversation, numbers[0])).title
        name = re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-").lower()[:50] or "conversation"
    headers = {"Content-Disposition": f'attachment; filename="{name}.{ending}"'}
    return Response(text.encode(), media_type=f"{media}; charset=utf-8", headers=headers)


@router.post("/import", status_code=201)
async def import_file(desk: DeskOf, request: Request, name: str = "") -> list[Form]:
    """Add the conversations of an exported JSON file, which is the body."""
    added = await asyncio.to_thread(import_json, desk.store, await request.body(), name)
    return [desk.announce(each) for each in added]


def title_of(text: str) -> str:
    """The first words of a user turn."""
    words = " ".join(text.split())
    if len(words) <= LONGEST_TITLE:
        return words
    return words[:LONGEST_TITLE].rsplit(" ", 1)[0].rstrip(",.;:") + "…"
