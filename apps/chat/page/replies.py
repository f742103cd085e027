"""Responses that are being generated, each by a task of its own, whether or not a tab looks on.

The text goes into the store and to every listener. Only what the store reports as saved is shown as saved.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from mlx_suite.runtime.errors import UserError
from mlx_suite.serving.chat_service import start_chat
from mlx_suite.serving.service import EngineFailure, ServedModel, Service

from ..store.conversation import NotFound, StoredMessage
from ..store.reply import Reply
from ..store.store import Store
from .events import Hub
from .forms import conversation_form, error_form, message_form, valid_facts
from .history import Setup, chat_request
from .live import Live, ResponseStream
from .render import render

SHOW_SECONDS = 0.1
"""A response is rendered at most this often."""
RENDER_SHARE = 10
"""Rendering a long response may take one in this many seconds."""
SAVE_TRIES, SAVE_PAUSE = 30, 2.0
"""The end of a response is saved again after this many seconds, if the disk was full."""


class Replies:
    """The responses that are being generated."""

    def __init__(self, service: Service, store: Store, hub: Hub) -> None:
        self._service, self._store, self._hub = service, store, hub
        self._live: dict[int, Live] = {}

    def watched(self, conversations: Iterable[int]) -> Iterator[Live]:
        """Responses in some conversations."""
        wanted = set(conversations)
        return (live for live in self._live.values() if live.conversation in wanted)

    def is_writing(self, conversation: int) -> bool:
        """Whether a response in a conversation is being generated."""
        return any(self.watched([conversation]))

    async def begin(
        self, setup: Setup, path: Sequence[StoredMessage], facts: Mapping[str, Any] | None = None
    ) -> StoredMessage:
        """Start a response after the last message of a path. Raises like `start_chat`, with nothing stored."""
        last = path[-1]
        stream, known = await self._started(setup, path)
        known |= facts or {}
        reply = await _stored(stream, self._store.begin, last.conversation, last.id, known)
        live = Live(conversation=last.conversation, message=reply.message, facts=known, stream=stream, text="")
        return await self._follow(live, reply)

    async def resume(self, setup: Setup, path: Sequence[StoredMessage]) -> StoredMessage:
        """Continue the response that ends a path: its exact text is the start of the new one."""
        last = path[-1]
        if last.id in self._live:
            raise UserError("The response is still being written", fix="stop it first")
        stream, known = await self._started(setup, path)
        reply = await _stored(stream, self._store.resume, last.id)
        known |= {"continued": valid_facts(last.facts).get("continued", 0) + 1, "error": None, "edited": False}
        live = Live(
            conversation=last.conversation,
            message=last.id,
            facts=known,
            stream=stream,
            text=last.content,
            ids=None,
            shown=len(last.content),
            saved=reply.saved,
        )
        return await self._follow(live, reply)

    async def branch(
        self,
        stream: ResponseStream,
        old: StoredMessage,
        served: ServedModel,
        given: tuple[str, Sequence[int]],
        facts: Mapping[str, Any],
    ) -> StoredMessage:
        """Write a sibling of a response; its stream has been started, and `given` is the text and ids before it."""
        known = {**model_facts(served), **facts}
        reply = await _stored(stream, self._store.regenerate, old.id, known)
        text, ids = given
        live = Live(
            conversation=old.conversation,
            message=reply.message,
            facts=known,
            stream=stream,
            text=text,
            ids=list(ids),
            unsaved=[text],
        )
        return await self._follow(live, reply)

    async def stop(self, message: int) -> None:
        """Stop a response, if it is being generated, and wait until what it has is saved."""
        live = self._live.get(message)
        if live is not None and live.task is not None:
            live.stream.cancel()
            await asyncio.wait([live.task])

    async def stop_all(self, conversation: int | None = None) -> None:
        """Stop all responses, or those of one conversation."""
        numbers = [each.message for each in self._live.values() if conversation in (None, each.conversation)]
        await asyncio.gather(*map(self.stop, numbers))

    async def _started(self, setup: Setup, path: Sequence[StoredMessage]) -> tuple[ResponseStream, dict[str, Any]]:
        served = self._service.model(setup.model)
        request = replace(chat_request(setup, path), model=served.name)
        stream = await start_chat(self._service, request)
        return stream, {**model_facts(served), "seed": request.seed, "settings": setup.settings.changed()}

    async def _follow(self, live: Live, reply: Reply) -> StoredMessage:
        conversation = live.conversation
        live.html = await asyncio.to_thread(render, live.text)
        self._live[live.message] = live
        live.task = asyncio.create_task(self._write(live, reply))
        self._hub.publish("started", {"conversation": conversation, "message": live.message})
        self._hub.publish("path", {"conversation": conversation})
        await self._announce(conversation)
        return await asyncio.to_thread(self._store.message, reply.message)

    async def _write(self, live: Live, reply: Reply) -> None:
        """Take the events of a response to their end, whatever it is, and save it."""
        publisher = asyncio.create_task(self._publish(live, reply))
        facts: dict[str, Any] = {}
        is_stopped = True
        try:
            async for event in live.stream:
                live.take(event)
            is_stopped = live.ended is None or live.ended.reason == "cancelled"
        except (EngineFailure, UserError) as error:
            facts["error"] = error_form(error)[1]
        except Exception as error:
            facts["error"] = error_form(EngineFailure(f"{type(error).__name__}: {error}"))[1]
            raise
        finally:
            live.is_over.set()
            live.fresh.set()
            await publisher
            await self._finish(live, reply, {**live.result(), **facts}, is_stopped or bool(facts))

    async def _publish(self, live: Live, reply: Reply) -> None:
        """Save and render the text while it grows."""
        while not live.is_over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(live.fresh.wait(), SHOW_SECONDS if live.saved < len(live.text) else None)
            live.fresh.clear()
            began = time.monotonic()
            new, live.unsaved = "".join(live.unsaved), []
            text = live.text
            try:
                live.saved, live.html = await asyncio.to_thread(_save_and_render, reply, new, text)
                live.problem = ""
            except UserError as error:
                live.problem = error.what
                live.html = await asyncio.to_thread(render, text, unfinished=True)
            live.shown = len(text)
            live.version += 1
            self._hub.wake()
            pause = max(SHOW_SECONDS, RENDER_SHARE * (time.monotonic() - began))
            with suppress(TimeoutError):
                await asyncio.wait_for(live.is_over.wait(), pause)

    async def _finish(self, live: Live, reply: Reply, facts: Mapping[str, Any], is_stopped: bool) -> None:
        """Save the end of a response and announce it; a full disk may be freed in the meantime."""
        for _ in range(SAVE_TRIES):
            try:
                await asyncio.to_thread(_save_end, reply, live, facts, is_stopped)
                break
            except UserError as error:
                live.problem = error.what
                live.version += 1
                self._hub.wake()
                if not await self._exists(live.message):
                    break
                await asyncio.sleep(SAVE_PAUSE)
        self._live.pop(live.message, None)
        with suppress(NotFound):
            message = await asyncio.to_thread(self._store.message, live.message)
            self._hub.publish("finished", await asyncio.to_thread(message_form, message))
            await self._announce(live.conversation)

    async def _exists(self, message: int) -> bool:
        try:
            await asyncio.to_thread(self._store.message, message)
        except NotFound:
            return False
        return True

    async def _announce(self, conversation: int) -> None:
        found = await asyncio.to_thread(self._store.conversation, conversation)
        self._hub.publish("conversation", conversation_form(found, is_writing=self.is_writing(conversation)))


async def _stored(stream: ResponseStream, store: Callable[..., Reply], *arguments: Any) -> Reply:
    """The reply that `store` makes for a stream, which is cancelled if it cannot."""
    try:
        return await asyncio.to_thread(store, *arguments)
    except BaseException:
        stream.cancel()
        raise


def model_facts(served: ServedModel) -> dict[str, Any]:
    """The model of a response, and the context that it has."""
    adapter = served.name if served.base != served.name else None
    return {"model": served.base, "adapter": adapter, "context": served.chat.context}


def _save_and_render(reply: Reply, new: str, text: str) -> tuple[int, str]:
    if new or reply.saved < len(text):
        reply.add(new)
    return reply.saved, render(text, unfinished=True)


def _save_end(reply: Reply, live: Live, facts: Mapping[str, Any], is_stopped: bool) -> None:
    new, live.unsaved = "".join(live.unsaved), []
    reply.add(new)
    reply.finish(facts, stopped=is_stopped)
