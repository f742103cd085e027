"""Routes of the tokens of a response: their probabilities and alternatives, and a branch at one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.chat_service import chat_plan
from mlx_suite.serving.generation import Generation
from mlx_suite.serving.service import ServedModel
from mlx_suite.text.message import ASSISTANT

from ..store.conversation import COMPLETE, StoredMessage
from .conversations import Form
from .desk import Desk, DeskOf, PageRoute
from .forms import IDS, message_form
from .history import Setup, chat_request, setup_of
from .token_branch import start_branch
from .token_scores import MOST_TOKENS, ResponseTokens, response_tokens, score_response, token_forms

router = APIRouter(prefix="/page", route_class=PageRoute)


class NewBranch(BaseModel):
    """Where a response is to go on differently."""

    model_config = ConfigDict(extra="forbid")

    position: int = Field(ge=0)
    """Number of tokens of the old response that stay."""
    token: int = Field(ge=0)
    """The token after them."""


@dataclass(frozen=True, kw_only=True)
class _Response:
    """A stored response as tokens."""

    message: StoredMessage
    setup: Setup
    served: ServedModel
    generation: Generation
    """The one that would write a response in its place."""
    tokens: ResponseTokens

    @property
    def with_end(self) -> Sequence[int]:
        """Its tokens, and the stop token if it came to its end."""
        is_ended = self.message.state == COMPLETE and self.message.facts.get("finish_reason") == "stop"
        return (*self.tokens.ids, *(self.served.chat.response_stops[:1] if is_ended else ()))


@router.get("/messages/{number}/tokens")
async def tokens(desk: DeskOf, number: int) -> Form:
    """The tokens of a response, scored by the model that wrote it if it is served."""
    response = await _response(desk, number)
    served = response.served
    ids = response.with_end
    room = served.chat.context - len(response.generation.prompt)
    scored = ids[: max(0, min(MOST_TOKENS, room))]
    async with desk.scoring:
        scores = await score_response(desk.service, served.name, response.generation.prompt, scored)
    forms = token_forms(served.chat.tokenizer, scored, scores)
    for form in forms:
        form["ends"] = form["id"] in response.generation.stop
    return {
        "message": number,
        "model": served.name,
        "exact": response.tokens.is_exact,
        "unscored": len(ids) - len(scored),
        "tokens": forms,
    }


@router.post("/messages/{number}/tokens/branch", status_code=201)
async def branch(desk: DeskOf, number: int, new: NewBranch) -> Form:
    """Begin a sibling of a response that starts with its first tokens and another one after them."""
    response = await _response(desk, number)
    chat = response.served.chat
    kept = response.tokens.ids[: new.position]
    if new.position > len(response.tokens.ids) or new.token >= chat.tokenizer.vocab_size:
        raise UserError(f"Response {number} has no such token", fix="load its tokens again")
    facts: dict[str, Any] = {"branched": {"message": number, "position": new.position}}
    if new.token in response.generation.stop:
        return message_form(await _ended(desk, response, kept, facts))
    given = (*kept, new.token)
    stream = await start_branch(desk.service, response.generation, given)
    facts |= {"seed": response.generation.seed, "settings": response.setup.settings.changed()}
    return message_form(
        await desk.replies.branch(stream, response.message, response.served, (stream.given, given), facts)
    )


async def _ended(desk: Desk, response: _Response, kept: Sequence[int], facts: dict[str, Any]) -> StoredMessage:
    """A sibling that ends after `kept`."""
    text = response.served.chat.tokenizer.decode(kept)
    facts = {**facts, IDS: list(kept), "finish_reason": "stop", "tokens": len(kept)}
    added = await asyncio.to_thread(desk.store.edit, response.message.id, text, facts)
    desk.announce(await asyncio.to_thread(desk.store.conversation, added.conversation), path=True)
    return added


async def _response(desk: Desk, number: int) -> _Response:
    """A response and its prompt. Raises UserError for another message, or one that is still being written."""
    message = await asyncio.to_thread(desk.store.message, number)
    if message.role != ASSISTANT or message.parent is None:
        raise UserError(f"Message {number} is not a response to a user turn", fix="choose a response")
    if message.state == "writing":
        raise UserError("The response is still being written", fix="wait for its end, or stop it")
    conversation = await asyncio.to_thread(desk.store.conversation, message.conversation)
    setup, path = setup_of(conversation), await desk.path_to(message)
    writer = str(message.facts.get("adapter") or message.facts.get("model"))
    served = desk.service.model(writer if writer in desk.service.models else setup.model)
    request = replace(chat_request(setup, path[:-1]), model=served.name)
    plan = await asyncio.to_thread(chat_plan, served, request)
    tokens = response_tokens(served.chat.tokenizer, message.content, message.facts)
    return _Response(message=message, setup=setup, served=served, generation=plan.generation, tokens=tokens)
