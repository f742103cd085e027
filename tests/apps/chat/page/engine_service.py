"""A service on tiny-llama3: one engine on one thread, without limits, time-outs or adapters."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import cache
from typing import Any

from mlx_suite import load
from mlx_suite.engine import Done, Engine, Given, Program, Request, Sample
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.serving.generation import Delta, Ended, Event, Generation, Started, Token
from mlx_suite.serving.service import Result, ServedModel, Service, ServiceStatus, Stream, UnknownModel
from mlx_suite.text import StreamingDetokenizer, load_chat_template

NAME = "tiny-llama3"


@cache
def tiny_llama3() -> ChatModel:
    model, tokenizer = load(NAME)
    return ChatModel(tokenizer=tokenizer, template=load_chat_template(tokenizer.origin), model=model, name=NAME)


class EngineService(Service):
    """Owns a thread from `with` to its end."""

    def __init__(self, slots: int = 8) -> None:
        served = ServedModel(name=NAME, chat=tiny_llama3(), base=NAME, created=1_764_000_000)
        self._models = {NAME: served}
        self._engine = Engine(served.chat.model, slots=slots, context=served.chat.context)
        self._queue: queue.Queue[Callable[[], None]] = queue.Queue()
        self._requests: list[Request] = []
        self._on_done: dict[int, Callable[[Done], None]] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> "EngineService":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._queue.put(lambda: None)
        self._thread.join(60)

    @property
    def models(self) -> Mapping[str, ServedModel]:
        return self._models

    def status(self) -> ServiceStatus:
        return ServiceStatus(running=self._engine.running, slots=self._engine.slots)

    def model(self, name: str) -> ServedModel:
        if name in ("", "default", NAME):
            return self._models[NAME]
        raise UnknownModel(f"No model {name!r} is served", fix=f"use {NAME}")

    async def start(self, generation: Generation) -> Stream:
        return _EngineStream(self, generation)

    def submit(self, model: str, request: Request, on_done: Callable[[Done], None]) -> None:
        self.model(model)

        def add() -> None:
            self._on_done[id(request)] = on_done
            self._requests.append(request)

        self._queue.put(add)

    async def call(self, model: str, work: Callable[[ChatModel], Result]) -> Result:
        chat = self.model(model).chat
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(work(chat))
            except BaseException as error:
                future.set_exception(error)

        self._queue.put(run)
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while not self._is_over.is_set():
            self._queue.get()()
            for done in self._engine.run(self._waiting()):
                self._on_done.pop(id(done.request))(done)

    def _waiting(self) -> Iterator[Request | None]:
        while not self._is_over.is_set():
            while not self._queue.empty():
                self._queue.get()()
            yield self._requests.pop(0) if self._requests else None


class _EngineStream(Stream):
    """One choice of a generation."""

    def __init__(self, service: EngineService, generation: Generation) -> None:
        chat, loop = service.model(generation.model).chat, asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._detokenizer = StreamingDetokenizer(chat.tokenizer)

        def program() -> Program:
            yield Given(generation.prompt)
            limit = chat.context if generation.limit is None else generation.limit
            return (yield Sample(limit=limit, stop=generation.stop, sampling=generation.sampling))

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(self._events.put_nowait, event)

        def on_token(token: int) -> None:
            if token not in generation.stop:
                tell(Delta(choice=0, text=self._detokenizer.add(token), tokens=(Token(id=token),)))

        prompt = len(generation.prompt)

        def on_done(done: Done) -> None:
            written = done.value
            reason: Any = "cancelled" if written is None else written.reason
            tokens = 0 if written is None else len(written.tokens)
            tell(Ended(choice=0, reason=reason, prompt_tokens=prompt, cached_tokens=0, tokens=tokens))

        tell(Started(choice=0, prompt_tokens=prompt, cached_tokens=0))
        self._request = Request(program=program(), seed=generation.seed or 0, on_token=on_token)
        service.submit(generation.model, self._request, on_done)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            event = await self._events.get()
            yield event
            if isinstance(event, Ended):
                return

    def cancel(self) -> None:
        self._request.cancel()
