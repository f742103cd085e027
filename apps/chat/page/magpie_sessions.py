"""The Magpie sessions of a server, each in a file of the user's data folder."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlx_suite.curation.tags.tagging import questions_for
from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.service import Service

from .magpie_file import SessionFile, SessionSettings, StoredSession, session_files
from .magpie_session import MagpieSession


class UnknownSession(UserError):
    """No session has the requested name."""


class MagpieSessions:
    """All sessions; those that were used since the start are in memory.

    Args:
        folder: Folder of the files; created with the first session.
    """

    def __init__(self, service: Service, folder: Path) -> None:
        self._service, self._folder = service, folder
        self._open: dict[str, MagpieSession] = {}
        self._reading = asyncio.Lock()

    def names(self) -> Sequence[str]:
        """All sessions, the newest first."""
        return [path.stem for path in session_files(self._folder)]

    def create(self, settings: SessionSettings) -> MagpieSession:
        """A new session without rows. Raises UserError for invalid settings and for a model that is not served."""
        settings = replace(settings, model=self._service.model(settings.model).name)
        self._check_category(settings)
        settings.magpie()
        now = datetime.now(UTC)
        name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        file = SessionFile(self._path(name))
        stored = StoredSession(settings=settings, created=now.isoformat(timespec="seconds"))
        file.begin(settings, stored.created)
        session = self._open[name] = MagpieSession(self._service, name, file, stored)
        return session

    async def start(self, settings: SessionSettings, rows: int) -> MagpieSession:
        """A new session that asks `rows` rows; the others are stopped. Raises like `create` and `MagpieSession.ask`."""
        session = self.create(settings)
        try:
            await session.ask(rows)
        except BaseException:
            await self.delete(session.name)
            raise
        for other in self._open.values():
            if other is not session:
                other.stop()
        return session

    async def session(self, name: str) -> MagpieSession:
        """A session, read from its file if it is not open. Raises UnknownSession."""
        async with self._reading:
            if name not in self._open:
                if name not in self.names():
                    raise UnknownSession(f"There is no Magpie session {name!r}", fix="load the list of sessions again")
                file = SessionFile(self._path(name))
                stored = await asyncio.to_thread(file.read)
                self._open[name] = MagpieSession(self._service, name, file, stored)
            return self._open[name]

    async def delete(self, name: str) -> None:
        """Delete a session and its file. Raises UnknownSession."""
        await (await self.session(name)).close()
        del self._open[name]
        self._path(name).unlink(missing_ok=True)

    async def close(self) -> None:
        """Stop all sessions."""
        for session in self._open.values():
            await session.close()

    def categories(self, model: str) -> Sequence[str]:
        """The categories that a model can tag, and thus be steered to. Raises UnknownModel."""
        served = self._service.model(model)
        questions = questions_for(Path(served.chat.tokenizer.origin)).about("instruction")
        return next((question.labels for question in questions if question.name == "category"), ())

    def options(self) -> Mapping[str, Any]:
        """What a new session can ask for: categories by model."""
        return {name: list(self.categories(name)) for name in self._service.models}

    def _check_category(self, settings: SessionSettings) -> None:
        known = self.categories(settings.model)
        if settings.category is not None and settings.category not in known:
            raise UserError(
                f"{settings.model} does not tag a category {settings.category!r}",
                fix=f"use one of {', '.join(known)}" if known else "leave the category open",
            )

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.jsonl"
