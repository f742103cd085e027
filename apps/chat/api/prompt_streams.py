"""The generations of a request with several prompts, as one stream of events."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from mlx_suite.serving.generation import Event, Generation
from mlx_suite.serving.service import QueueFull, Service, Stream

AT_ONCE = 16
"""Choices of one request that are in flight at once: a request with many prompts does not fill the queue."""


class PromptStreams:
    """Streams of all prompts, numbered through: choice c of prompt p is choice p * n + c.

    Args:
        generations: One for each prompt, all with the same number n of choices.
    """

    def __init__(self, service: Service, generations: Sequence[Generation]) -> None:
        self._service = service
        self._waiting = deque(enumerate(generations))
        self._choices = generations[0].choices
        self._streams: list[tuple[int, Stream]] = []
        self._cancelled = False

    async def start(self) -> None:
        """Start the first prompts. Raises like `Service.start`, after cancelling those that had started."""
        try:
            while self._waiting and len(self._streams) < max(1, AT_ONCE // self._choices):
                number, generation = self._waiting.popleft()
                self._streams.append((number, await self._service.start(generation)))
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Stop all work; harmless if it has ended."""
        self._cancelled = True
        self._waiting.clear()
        for _, stream in self._streams:
            stream.cancel()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events as they come. Raises what a stream or a later start raises."""
        events: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        readers = [asyncio.create_task(self._read(number, stream, events)) for number, stream in self._streams]
        running = len(readers)
        try:
            while running:
                event = await events.get()
                if isinstance(event, Exception):
                    raise event
                if event is None:
                    running -= 1
                else:
                    yield event
        finally:
            self.cancel()
            for reader in readers:
                reader.cancel()

    async def _read(self, number: int, stream: Stream, events: asyncio.Queue[Event | Exception | None]) -> None:
        """Read a stream to its end, then start and read prompts that wait."""
        try:
            while True:
                async for event in stream:
                    events.put_nowait(replace(event, choice=event.choice + number * self._choices))
                if not self._waiting:
                    break
                number, generation = self._waiting.popleft()
                stream = await self._start_late(generation)
                self._streams.append((number, stream))
                if self._cancelled:
                    stream.cancel()
            events.put_nowait(None)
        except Exception as error:
            events.put_nowait(error)

    async def _start_late(self, generation: Generation) -> Stream:
        """Start a prompt of a request that was accepted: it waits while the queue is full."""
        while True:
            try:
                return await self._service.start(generation)
            except QueueFull as error:
                await asyncio.sleep(error.retry_after)
