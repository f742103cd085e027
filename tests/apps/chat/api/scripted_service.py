"""A service without a model: it answers each request by a script, one token at a time.

    service = ScriptedService(Script("Hello there."), Script("No.", delay=0.01))
    client = TestClient(create_app(service))

The first request gets the first script, and so on; the last script answers all further ones. `service.generations` are
the requests that arrived, `service.streams` their answers.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mlx_suite.engine import Done, Request, TokenScore
from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.serving.generation import Delta, Ended, EndReason, Event, Generation, Started, Token
from mlx_suite.serving.service import (
    EngineFailure,
    PromptTooLong,
    QueueFull,
    Result,
    ServedModel,
    ServiceStatus,
    UnknownModel,
)
from mlx_suite.text import load_chat_template, load_tokenizer

CONTEXT = 512
LLAMA = Path(__file__).parents[4] / "models" / "tiny-llama3"


@dataclass(frozen=True)
class Script:
    """How one request is answered."""

    text: str = ""
    """The text of every choice, without a stop token; it is cut at the request's limit and stop texts."""
    texts: tuple[str, ...] = ()
    """A text for each choice, instead of `text`."""
    reason: EndReason = "stop"
    """Why it ends, if neither limit nor stop text ends it."""
    cached: int = 0
    """Leading tokens of the prompt that the prefix cache holds."""
    delay: float = 0.0
    """Seconds before each event."""
    silent: bool = False
    """Whether nothing comes until the stream is cancelled, not even `Started`."""
    hangs_after: int | None = None
    """After this many tokens of a choice, nothing more comes until the stream is cancelled."""
    fails_after: int | None = None
    """After this many tokens of a choice, the engine fails."""
    refusal: Exception | None = None
    """Raised by `start`, for example `queue_full()`."""


def queue_full(retry_after: float = 3.0) -> QueueFull:
    """The refusal of a service with a full queue."""
    error = QueueFull("64 requests are waiting", fix="try again in 3 seconds")
    error.retry_after = retry_after
    return error


class ScriptedStream:
    """The answer to one request."""

    def __init__(self, generation: Generation, script: Script, served: ServedModel) -> None:
        self.cancelled = False
        """Whether `cancel` was called."""
        self.ended = False
        """Whether all events were read, the failure included."""
        self._generation, self._script, self._served = generation, script, served
        self._cancel = asyncio.Event()

    def cancel(self) -> None:
        self.cancelled = True
        self._cancel.set()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events()

    async def _events(self) -> AsyncIterator[Event]:
        try:
            async for event in self._scripted():
                if self.cancelled:
                    break
                yield event
            if self.cancelled:
                for choice in range(self._generation.choices):
                    yield self._end(choice, 0, "cancelled")
        finally:
            self.ended = True

    async def _scripted(self) -> AsyncIterator[Event]:
        script, prompt = self._script, len(self._generation.prompt)
        if script.silent:
            await self._cancel.wait()
            return
        for choice in range(self._generation.choices):
            await self._pause()
            yield Started(choice=choice, prompt_tokens=prompt, cached_tokens=script.cached)
        for choice in range(self._generation.choices):
            async for event in self._choice(choice):
                yield event

    async def _choice(self, choice: int) -> AsyncIterator[Event]:
        script, generation = self._script, self._generation
        text = script.texts[choice] if script.texts else script.text
        places = [(text.index(stop), stop) for stop in generation.stop_texts if stop in text]
        found = min(places, default=None)
        reason: EndReason = script.reason
        if found is not None:
            text, reason = text[: found[0]], "stop"
        tokens = self._served.chat.tokenizer.encode(text)
        room = CONTEXT - len(generation.prompt)
        if generation.limit is not None and len(tokens) >= generation.limit:
            tokens, reason, found = tokens[: generation.limit], "limit", None
        elif len(tokens) >= room:
            tokens, reason, found = tokens[:room], "context", None
        for number, token in enumerate(tokens):
            if number == script.fails_after:
                raise EngineFailure("the engine failed: out of memory")
            if number == script.hangs_after:
                await self._cancel.wait()
                return
            await self._pause()
            piece = self._served.chat.tokenizer.decode([token])
            yield Delta(choice=choice, text=piece, tokens=(Token(id=token, score=self._score(token)),))
        if script.fails_after is not None and script.fails_after >= len(tokens):
            raise EngineFailure("the engine failed: out of memory")
        await self._pause()
        yield self._end(choice, len(tokens) + (reason == "stop" and found is None), reason, found and found[1])

    def _score(self, token: int) -> TokenScore | None:
        """The token has probability 1/2, the ids after it 1/4, 1/8 …"""
        count = self._generation.alternatives
        if count is None:
            return None
        near = tuple((token + place, -0.6931471805599453 * (place + 1)) for place in range(count))
        return TokenScore(log_prob=-0.6931471805599453, alternatives=near)

    async def _pause(self) -> None:
        await asyncio.sleep(self._script.delay)

    def _end(self, choice: int, tokens: int, reason: EndReason, stop_text: str | None = None) -> Ended:
        stop_token = min(self._generation.stop, default=None) if reason == "stop" and stop_text is None else None
        return Ended(
            choice=choice,
            reason=reason,
            prompt_tokens=len(self._generation.prompt),
            cached_tokens=self._script.cached,
            tokens=tokens,
            stop_text=stop_text,
            stop_token=stop_token,
        )


@dataclass
class ScriptedService:
    """Answers by script; its models have tiny-llama3's tokenizer and template, and no weights."""

    scripts: tuple[Script, ...]
    generations: list[Generation] = field(default_factory=list)
    streams: list[ScriptedStream] = field(default_factory=list)

    def __init__(self, *scripts: Script, names: Sequence[str] = ("tiny-llama3", "tiny-llama3:short")) -> None:
        self.scripts = scripts or (Script("Hello there."),)
        self.generations, self.streams = [], []
        self._arrived = 0
        self._models = {
            name: ServedModel(name=name, chat=chat_model(), base=names[0], created=1_700_000_000) for name in names
        }

    @property
    def models(self) -> Mapping[str, ServedModel]:
        return self._models

    def model(self, name: str) -> ServedModel:
        if name in ("", "default"):
            return next(iter(self._models.values()))
        if name not in self._models:
            raise UnknownModel(f"no model is served as {name!r}", fix=f"use one of {', '.join(self._models)}")
        return self._models[name]

    async def start(self, generation: Generation) -> ScriptedStream:
        served = self.model(generation.model)
        script = self.scripts[min(self._arrived, len(self.scripts) - 1)]
        self._arrived += 1
        if script.refusal is not None:
            raise script.refusal
        if len(generation.prompt) >= CONTEXT:
            raise _too_long(len(generation.prompt))
        self.generations.append(generation)
        self.streams.append(ScriptedStream(generation, script, served))
        return self.streams[-1]

    def status(self) -> ServiceStatus:
        """Its load; a cancelled stream ends whether its events are read or not."""
        return ServiceStatus(
            running=sum(not (stream.ended or stream.cancelled) for stream in self.streams),
            slots=16,
            requests=self._arrived,
        )

    def submit(self, model: str, request: Request, on_done: Callable[[Done], None]) -> None:
        self.model(model)
        on_done(Done(request=request, value=None))

    async def call(self, model: str, work: Callable[[ChatModel], Result]) -> Result:
        return work(self.model(model).chat)

    async def embed(self, model: str, prompts: Sequence[tuple[int, ...]]) -> list[list[float]]:
        """A vector of length 1 that tells prompts of different lengths apart."""
        self.model(model)
        for prompt in prompts:
            if len(prompt) > CONTEXT:
                raise _too_long(len(prompt))
        return [[0.6, 0.8] if len(prompt) % 2 else [0.8, -0.6] for prompt in prompts]


@cache
def chat_model() -> ChatModel:
    """Tokenizer and template of tiny-llama3."""
    tokenizer = load_tokenizer(LLAMA)
    template: Any = load_chat_template(LLAMA)
    return ChatModel(tokenizer=tokenizer, template=template, max_context=CONTEXT, name="tiny-llama3")


def _too_long(tokens: int) -> PromptTooLong:
    error = PromptTooLong(f"the prompt has {tokens} tokens, and the context {CONTEXT}", fix="shorten the conversation")
    error.prompt_tokens, error.context = tokens, CONTEXT
    return error
