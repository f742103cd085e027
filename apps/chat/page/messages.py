"""Routes of messages: send, answer, stop, continue, regenerate, edit, choose a sibling, branch."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.service import EngineFailure
from mlx_suite.text.message import ASSISTANT, USER

from ..store.conversation import StoredMessage
from .conversations import Form, title_of
from .desk import Desk, DeskOf, PageRoute
from .forms import error_form, message_form
from .history import setup_of

router = APIRouter(prefix="/page", route_class=PageRoute)

MODEL_FACTS = ("model", "adapter", "context")
"""What remains true of a response whose text was edited."""


class NewMessage(BaseModel):
    """A user turn."""

    model_config = ConfigDict(extra="forbid")

    content: str = Field(min_length=1)
    parent: int | None = None


class EditedMessage(BaseModel):
    """Another content of a message."""

    model_config = ConfigDict(extra="forbid")

    content: str = Field(min_length=1)


@router.post("/conversations/{number}/messages", status_code=201)
async def send(desk: DeskOf, number: int, new: NewMessage) -> Form:
    """Add a user turn and begin the response. The turn is stored also if the response cannot begin."""
    added = await asyncio.to_thread(desk.store.add, number, new.parent, USER, new.content)
    conversation = await asyncio.to_thread(desk.store.conversation, number)
    if not conversation.title:
        conversation = await asyncio.to_thread(desk.store.change, number, title=title_of(new.content))
    desk.announce(conversation, path=True)
    return await _answered(desk, added)


@router.post("/messages/{number}/reply", status_code=201)
async def reply(desk: DeskOf, number: int) -> Form:
    """Begin a response after a user turn."""
    message = await asyncio.to_thread(desk.store.message, number)
    if message.role != USER:
        raise UserError(f"Message {number} is a response", fix="continue it, or regenerate it")
    return await _form(await _begun(desk, message))


@router.post("/messages/{number}/regenerate", status_code=201)
async def regenerate(desk: DeskOf, number: int) -> Form:
    """Begin another response in place of one, which stays as its sibling."""
    old = await asyncio.to_thread(desk.store.message, number)
    if old.role != ASSISTANT or old.parent is None:
        raise UserError(f"Message {number} is not a response to a user turn", fix="choose a response")
    await desk.replies.stop(number)
    return await _form(await _begun(desk, await asyncio.to_thread(desk.store.message, old.parent)))


@router.post("/messages/{number}/continue", status_code=201)
async def continue_response(desk: DeskOf, number: int) -> Form:
    """Continue a response that was stopped, edited, or ended by a limit."""
    message = await asyncio.to_thread(desk.store.message, number)
    conversation = await asyncio.to_thread(desk.store.conversation, message.conversation)
    return await _form(await desk.replies.resume(setup_of(conversation), await desk.path_to(message)))


@router.post("/messages/{number}/stop")
async def stop(desk: DeskOf, number: int) -> Form:
    """Stop a response; what it has so far stays."""
    await desk.replies.stop(number)
    return await _form(await asyncio.to_thread(desk.store.message, number))


@router.post("/conversations/{number}/stop")
async def stop_conversation(desk: DeskOf, number: int) -> Form:
    """Stop all responses in a conversation."""
    await desk.replies.stop_all(number)
    return desk.form(await asyncio.to_thread(desk.store.conversation, number))


@router.post("/messages/{number}/edit", status_code=201)
async def edit(desk: DeskOf, number: int, new: EditedMessage) -> Form:
    """Add a sibling with another content. After a user turn a response begins."""
    old = await asyncio.to_thread(desk.store.message, number)
    await desk.replies.stop(number)
    facts = {"edited": True} | {name: old.facts[name] for name in MODEL_FACTS if name in old.facts}
    added = await asyncio.to_thread(desk.store.edit, number, new.content, facts if old.role == ASSISTANT else {})
    desk.announce(await asyncio.to_thread(desk.store.conversation, added.conversation), path=True)
    if added.role == ASSISTANT:
        return {"message": await _form(added), "reply": None, "error": None}
    return await _answered(desk, added)


@router.post("/messages/{number}/choose")
async def choose(desk: DeskOf, number: int) -> Form:
    """Show the branch of a message."""
    return desk.announce(await asyncio.to_thread(desk.store.choose, number), path=True)


@router.post("/messages/{number}/branch", status_code=201)
async def branch(desk: DeskOf, number: int) -> Form:
    """A new conversation with a copy of the path to a message."""
    return desk.announce(await asyncio.to_thread(desk.store.branch, number))


async def _form(message: StoredMessage) -> Form:
    """A message as the page gets it. Rendering a long one takes too long for the event loop."""
    return await asyncio.to_thread(message_form, message)


async def _answered(desk: Desk, message: StoredMessage) -> dict[str, Any]:
    """A user turn that is stored, and the response to it or why there is none."""
    form: dict[str, Any] = {"message": await _form(message), "reply": None, "error": None}
    try:
        form["reply"] = await _form(await _begun(desk, message))
    except (UserError, EngineFailure) as error:
        form["error"] = error_form(error)[1]
    return form


async def _begun(desk: Desk, message: StoredMessage) -> StoredMessage:
    conversation = await asyncio.to_thread(desk.store.conversation, message.conversation)
    return await desk.replies.begin(setup_of(conversation), await desk.path_to(message))
