"""Routes of Compare: one prompt, two columns.

Both columns are branches of one conversation; a message's `facts` say which column it is in. So both are stored,
listed, exported and searched like any other, and a column becomes a chat of its own by branching.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.service import EngineFailure
from mlx_suite.text.message import USER

from ..store.conversation import StoredMessage
from .conversations import Form, title_of
from .desk import Desk, DeskOf, PageRoute
from .forms import COMPARE, error_form, message_form
from .history import Setup, new_seed
from .sampling import SamplingSettings

router = APIRouter(prefix="/page", route_class=PageRoute)

COLUMN = "column"
"""Key in a message's facts: the column it is in, 0 or 1; the first user turn is in both and has none."""


class Column(BaseModel):
    """What a column generates with."""

    model_config = ConfigDict(extra="forbid")

    model: str = ""
    system: str = ""
    settings: SamplingSettings = SamplingSettings()

    def setup(self, seed: int | None = None) -> Setup:
        return Setup(model=self.model, system=self.system, settings=self.settings, seed=seed)

    def stored(self) -> dict[str, Any]:
        return {"model": self.model, "system": self.system, "settings": self.settings.changed()}


class Comparison(BaseModel):
    """A user turn for both columns."""

    model_config = ConfigDict(extra="forbid")

    content: str = Field(min_length=1)
    columns: tuple[Column, Column]
    conversation: int | None = None
    """The comparison to add to; None for a new one."""


@router.post("/compare", status_code=201)
async def compare(desk: DeskOf, new: Comparison) -> Form:
    """Send a user turn to both columns and begin both responses."""
    setups = {COMPARE: [column.stored() for column in new.columns]}
    store = desk.store
    if new.conversation is None:
        found = await asyncio.to_thread(store.create, title_of(new.content), sampling=setups)
        first = await asyncio.to_thread(store.add, found.id, None, USER, new.content)
        turns = [first, first]
    else:
        paths = await asyncio.to_thread(_paths, desk, new.conversation)
        found = await asyncio.to_thread(store.change, new.conversation, sampling=setups)
        turns = [
            await asyncio.to_thread(
                store.add, found.id, path[-1].id if path else None, USER, new.content, {COLUMN: column}
            )
            for column, path in enumerate(paths)
        ]
    desk.announce(found, path=True)
    seed = new_seed()  # the same for both, so that only the setups differ
    errors = [await _begun(desk, column, turn, new.columns[column].setup(seed)) for column, turn in enumerate(turns)]
    return {**await comparison(desk, found.id), "errors": errors}


@router.get("/compare/{number}")
async def comparison(desk: DeskOf, number: int) -> Form:
    """A comparison with the messages of both columns."""
    found = await asyncio.to_thread(desk.store.conversation, number)
    paths = await asyncio.to_thread(_paths, desk, number)
    columns = await asyncio.to_thread(lambda: [[message_form(message) for message in path] for path in paths])
    return {**desk.form(found), "columns": columns}


@router.post("/compare/{number}/columns/{column}/reply", status_code=201)
async def reply(desk: DeskOf, number: int, column: Annotated[int, Path(ge=0, le=1)], setup: Column) -> Form:
    """Begin the response of a column in which it could not begin before."""
    last = (await asyncio.to_thread(_paths, desk, number))[column][-1]
    if last.role != USER:
        raise UserError("The column has a response", fix="send another message")
    await desk.replies.begin(setup.setup(), await desk.path_to(last), {COLUMN: column})
    return await comparison(desk, number)


async def _begun(desk: Desk, column: int, turn: StoredMessage, setup: Setup) -> Form | None:
    """Begin a column's response; return the error if it cannot."""
    try:
        await desk.replies.begin(setup, await desk.path_to(turn), {COLUMN: column})
    except (UserError, EngineFailure) as error:
        return error_form(error)[1]
    return None


def _paths(desk: Desk, number: int) -> list[Sequence[StoredMessage]]:
    """The messages of both columns: each ends with the newest one that is in it."""
    _, messages = desk.store.tree(number)
    paths: list[Sequence[StoredMessage]] = []
    for column in (0, 1):
        own = [message for message in messages if message.facts.get(COLUMN, column) == column]
        paths.append(desk.store.path(number, own[-1].id) if own else ())
    return paths
