"""The service on real engines: requests from event loops to the worker's thread, and events back."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import numpy as np

from mlx_suite.engine import Cancelled, Done, Given, Program, Queries, Query, Request, Sample, Written
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.modeling.head import head_function, vocabulary_size
from mlx_suite.runtime.errors import UserError, nearest_name
from mlx_suite.runtime.memory import human_bytes
from mlx_suite.serving.generation import Ended, Event, Generation, Started
from mlx_suite.serving.lane import Job
from mlx_suite.serving.service import (
    EngineFailure,
    PromptTooLong,
    QueueFull,
    ServedModel,
    ServiceStatus,
    UnknownModel,
)
from mlx_suite.serving.text_stream import TextStream
from mlx_suite.serving.worker import Worker
from mlx_suite.text import StreamingDetokenizer

Result = TypeVar("Result")

DEFAULT_SECONDS = 600.0
"""Time limit of a request without one of its own."""


class EngineService:
    """Answers requests with the models of a worker. Implements `Service`.

    Args:
        seconds: Time limit of a request without one of its own.
    """

    def __init__(self, worker: Worker, *, seconds: float = DEFAULT_SECONDS) -> None:
        self.worker, self.seconds = worker, seconds
        loaded = int(time.time())
        self._models = {
            model.name: ServedModel(name=model.name, chat=model.chat, base=model.base, created=loaded)
            for model in worker.models.values()
        }
        for model in worker.models.values():
            _ = model.chat.never_sampled  # computed now, because requests are planned on threads without MLX
        self._durations: list[float] = []
        """Seconds of the last requests."""

    @property
    def models(self) -> Mapping[str, ServedModel]:
        return self._models

    def model(self, name: str) -> ServedModel:
        if name in ("", "default"):
            return next(iter(self._models.values()))
        if name not in self._models:
            raise UnknownModel(f"No model called {name!r} is served", fix=nearest_name(name, self._models))
        return self._models[name]

    def status(self) -> ServiceStatus:
        return self.worker.status()

    async def start(self, generation: Generation) -> "EventStream":
        served = self.model(generation.model)
        self._check(generation, served)
        stream = EventStream(generation.choices)
        seconds = self.seconds if generation.seconds is None else generation.seconds
        deadline = time.monotonic() + seconds
        seed = secrets.randbelow(1 << 31) if generation.seed is None else generation.seed
        for choice in range(generation.choices):
            self._start_choice(generation, served, stream, choice, seed + choice, deadline)
        return stream

    def submit(self, model: str, request: Request, on_done: Callable[[Done], None], tokens: int | None = None) -> None:
        served = self.model(model)
        longest = served.chat.context if tokens is None else min(tokens, served.chat.context)
        self._check_budget(longest, served)
        self._check_queue(1)
        deadline = time.monotonic() + self.seconds
        job = Job(request=request, tokens=longest, on_done=on_done, deadline=deadline)
        self.worker.submit(served.name, job)

    async def call(self, model: str, work: Callable[[ChatModel], Result]) -> Result:
        chat = self.model(model).chat
        return cast(Result, await asyncio.wrap_future(self.worker.call(lambda: work(chat))))

    async def embed(self, model: str, prompts: Sequence[tuple[int, ...]]) -> list[list[float]]:
        served = self.model(model)
        if head_function(served.chat.model) is None:
            raise UserError(f"{served.name} has no known hidden state to embed texts with", fix="use another model")
        for prompt in prompts:
            self._check_prompt(prompt, served)
        self._check_queue(len(prompts))
        return list(await asyncio.gather(*(self._embed(served, prompt) for prompt in prompts)))

    async def _embed(self, served: ServedModel, prompt: tuple[int, ...]) -> list[float]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Done] = loop.create_future()

        def on_done(done: Done) -> None:
            _post(loop, lambda: None if future.done() else future.set_result(done))

        request = Request(program=_embedding(prompt))
        deadline = time.monotonic() + self.seconds
        self.worker.submit(
            served.name, Job(request=request, tokens=len(prompt) + 1, on_done=on_done, deadline=deadline)
        )
        try:
            done = await future
        finally:
            request.cancel()
        if done.error is not None:
            raise EngineFailure(str(done.error) or type(done.error).__name__) from done.error
        return cast(list[float], done.value)

    # ---- admission

    def _check(self, generation: Generation, served: ServedModel) -> None:
        self._check_prompt(generation.prompt, served)
        rows = vocabulary_size(served.chat.model)
        unknown = [token for token, _ in generation.sampling.logit_bias if not 0 <= token < rows]
        if unknown:
            raise UserError(
                f"logit_bias names token {unknown[0]}, which the model does not have",
                where="logit_bias",
                fix=f"use ids from 0 to {rows - 1:,}",
            )
        self._check_budget(_longest(generation, served), served)
        self._check_queue(generation.choices)

    def _check_budget(self, tokens: int, served: ServedModel) -> None:
        """Raises UserError for a sequence whose KV cache exceeds the budget even if nothing else runs."""
        needed = self.worker.costs[served.name].of_slot(tokens)
        if needed > self.worker.limits.kv_bytes:
            raise UserError(
                f"The KV cache of this request needs {human_bytes(needed)}, more than the server's memory budget of "
                f"{human_bytes(self.worker.limits.kv_bytes)}",
                where="max_tokens",
                fix="ask for fewer tokens, or start the server with a larger --memory",
            )

    def _check_prompt(self, prompt: Sequence[int], served: ServedModel) -> None:
        context, rows = served.chat.context, vocabulary_size(served.chat.model)
        if not prompt:
            raise UserError("The prompt is empty", where="prompt", fix="give at least one token")
        outside = next((token for token in prompt if not 0 <= token < rows), None)
        if outside is not None:
            raise UserError(
                f"The prompt has token {outside}, which the model does not have",
                where="prompt",
                fix=f"use ids from 0 to {rows - 1:,}",
            )
        if len(prompt) >= context:
            error = PromptTooLong(
                f"The prompt has {len(prompt):,} tokens; the context of prompt and response is {context:,}",
                where=served.name,
                fix="shorten the prompt, or use a model with a longer context",
            )
            error.prompt_tokens, error.context = len(prompt), context
            raise error

    def _check_queue(self, arriving: int) -> None:
        limits, waiting = self.worker.limits, self.worker.waiting
        free = limits.slots - self.worker.running
        if waiting + arriving > limits.waiting + max(free, 0):
            error = QueueFull(
                f"{waiting} requests are waiting, as many as the server accepts",
                fix="try again later",
            )
            typical = sorted(self._durations)[len(self._durations) // 2] if self._durations else 1.0
            error.retry_after = max(1.0, typical * (1 + waiting // limits.slots))
            raise error

    # ---- choices

    def _start_choice(
        self,
        generation: Generation,
        served: ServedModel,
        stream: "EventStream",
        choice: int,
        seed: int,
        deadline: float,
    ) -> None:
        tokenizer = served.chat.tokenizer
        text = TextStream(
            choice=choice,
            detokenizer=StreamingDetokenizer(tokenizer, skip_special=not generation.special),
            stop_texts=generation.stop_texts,
            on_delta=stream.post,
        )
        longest = _longest(generation, served)
        sample = Sample(
            limit=longest - len(generation.prompt),
            stop=generation.stop,
            sampling=generation.sampling,
            constraint=None if generation.constraint is None else generation.constraint(),
            until=text.add,
            alternatives=generation.alternatives,
        )
        prompt_tokens, reused, began = len(generation.prompt), 0, time.monotonic()

        def on_start(tokens: int) -> None:
            nonlocal reused
            reused = tokens
            stream.post(Started(choice=choice, prompt_tokens=prompt_tokens, cached_tokens=tokens))

        def on_done(done: Done) -> None:
            text.finish()
            self._durations = [*self._durations[-31:], time.monotonic() - began]
            ended = Ended(
                choice=choice,
                reason="cancelled",
                prompt_tokens=prompt_tokens,
                cached_tokens=reused,
                tokens=text.count,
                tokens_per_second=text.tokens_per_second,
            )
            if isinstance(done.error, Cancelled):
                is_late = not stream.cancelled and time.monotonic() > deadline
                stream.post(replace(ended, reason="time") if is_late else ended)
            elif done.error is not None:
                failure = EngineFailure(f"{type(done.error).__name__}: {done.error}")
                failure.__cause__ = done.error
                stream.post(failure)
            else:
                written: Written = done.value
                stream.post(
                    replace(
                        ended,
                        reason=written.reason,
                        tokens=text.count + (written.stop_token is not None),
                        stop_text=text.stop_text,
                        stop_token=written.stop_token,
                    )
                )

        request = Request(
            program=_completion(generation.prompt, sample),
            seed=seed,
            on_start=on_start,
            on_score=text.on_score,
            keep=True,
        )
        stream.requests.append(request)
        self.worker.submit(served.name, Job(request=request, tokens=longest, on_done=on_done, deadline=deadline))


@dataclass
class EventStream:
    """The events of a request, on the event loop that started it. Implements `Stream`."""

    choices: int
    """Choices that have not ended."""
    requests: list[Request] = field(default_factory=list)
    cancelled: bool = False
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _events: "asyncio.Queue[Event | EngineFailure]" = field(default_factory=asyncio.Queue)

    def post(self, event: Event | EngineFailure) -> None:
        """Add an event; from any thread."""
        _post(self._loop, lambda: self._events.put_nowait(event))

    def cancel(self) -> None:
        self.cancelled = True
        for request in self.requests:
            request.cancel()

    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            while self.choices:
                event = await self._events.get()
                if isinstance(event, EngineFailure):
                    raise event
                self.choices -= isinstance(event, Ended)
                yield event
        finally:
            if self.choices:
                self.cancel()


def _longest(generation: Generation, served: ServedModel) -> int:
    """Maximum tokens of prompt and response together."""
    context = served.chat.context
    return context if generation.limit is None else min(context, len(generation.prompt) + generation.limit)


def _completion(prompt: tuple[int, ...], sample: Sample) -> Program:
    yield Given(prompt)
    written: Written = yield sample
    return written


def _embedding(prompt: tuple[int, ...]) -> Program:
    yield Given(prompt)
    [reply] = yield Queries((Query(tokens=(), state=True),))
    return (reply.state / max(float(np.linalg.norm(reply.state)), 1e-12)).tolist()


def _post(loop: asyncio.AbstractEventLoop, work: Callable[[], Any]) -> None:
    """Run `work` on an event loop. A loop that has been closed has no reader left."""
    try:
        loop.call_soon_threadsafe(work)
    except RuntimeError:
        if not loop.is_closed():
            raise
