"""A service that writes literal texts, without a model: the prompt's last user turn chooses what it does."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import mlx_suite_models

from mlx_suite.engine.chat_model import ChatModel
from mlx_suite.serving.generation import Delta, Ended, Event, Generation, Started, Token
from mlx_suite.serving.service import (
    EngineFailure,
    PromptTooLong,
    QueueFull,
    ServedModel,
    ServiceStatus,
    UnknownModel,
)
from mlx_suite.text import load_chat_template, load_tokenizer

TEXTS: dict[str, str] = {}
"""Response to each user turn; to others: `You said: …`."""
CONTEXT = 2000


@cache
def chat_model() -> ChatModel:
    """The shipped model's tokenizer and template, without its weights."""
    folder = Path(mlx_suite_models.__file__).parent / "tiny-llama3"
    tokenizer = load_tokenizer(folder)
    return ChatModel(tokenizer=tokenizer, template=load_chat_template(folder), name="tiny-llama3", max_context=CONTEXT)


def served(name: str, base: str = "") -> ServedModel:
    """A served model of this name."""
    return ServedModel(name=name, chat=replace(chat_model(), name=name), base=base or name, created=int(time.time()))


@dataclass
class ScriptedStream:
    """One response, piece by piece, with a pause after each."""

    pieces: list[str]
    pause: float
    prompt_tokens: int
    limit: int | None
    holds: bool
    fails: bool
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True

    async def __aiter__(self) -> AsyncIterator[Event]:
        cached = self.prompt_tokens // 2
        yield Started(choice=0, prompt_tokens=self.prompt_tokens, cached_tokens=cached)
        count = 0
        for piece in self.pieces:
            await asyncio.sleep(self.pause)
            if self.is_cancelled or count == self.limit:
                break
            count += 1
            yield Delta(choice=0, text=piece, tokens=(Token(id=count),))
        while self.holds and not self.is_cancelled:
            await asyncio.sleep(0.01)
        if self.fails:
            raise EngineFailure("out of memory on the device")
        reason: Any = "cancelled" if self.is_cancelled else "limit" if count == self.limit else "stop"
        yield Ended(
            choice=0,
            reason=reason,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=cached,
            tokens=count,
            tokens_per_second=98.7,
        )


class TalkingService:
    """Answers at once; words in the last user turn change that.

    slow    a pause of 40 ms after each word
    hold    half of the text, then nothing until it is cancelled
    full    the queue is full the first time
    fail    the engine fails after the text
    """

    def __init__(self, *models: ServedModel) -> None:
        self.models: Mapping[str, ServedModel] = {each.name: each for each in models or (served("tiny-llama3"),)}
        self.prompts: list[str] = []
        self.generations: list[Generation] = []
        self._refused: set[str] = set()

    def model(self, name: str) -> ServedModel:
        if name in ("", "default"):
            return next(iter(self.models.values()))
        if name not in self.models:
            raise UnknownModel(f"No model is served as {name!r}", fix=f"use one of {', '.join(self.models)}")
        return self.models[name]

    async def start(self, generation: Generation) -> ScriptedStream:
        chat = self.model(generation.model).chat
        prompt = chat.tokenizer.decode(generation.prompt, skip_special=False)
        turn, _, begun = prompt.rpartition("<|start_header_id|>user<|end_header_id|>")[2].partition("<|eot_id|>")
        turn, begun = turn.strip(), begun.rpartition("<|end_header_id|>")[2].lstrip("\n")
        if len(generation.prompt) >= CONTEXT:
            error = PromptTooLong(
                f"The prompt has {len(generation.prompt):,} tokens; the context has room for {CONTEXT:,}",
                fix="shorten the conversation",
            )
            error.prompt_tokens, error.context = len(generation.prompt), CONTEXT
            raise error
        if "full" in turn.split() and turn not in self._refused:
            self._refused.add(turn)
            raise QueueFull("Too many requests are waiting", fix="try again in a moment")
        self.prompts.append(prompt)
        self.generations.append(generation)
        text = TEXTS.get(turn, f"You said: {turn}")
        if generation.model != next(iter(self.models)) and turn not in TEXTS:
            text = f"{generation.model} heard: {turn}"
        words = turn.split()
        pieces = re.findall(r"\s*\S+|\s+$", text.removeprefix(begun))
        holds = "hold" in words and not begun
        if holds:
            pieces = pieces[: len(pieces) // 2]
        return ScriptedStream(
            pieces=pieces,
            pause=0.04 if "slow" in words else 0.0,
            prompt_tokens=len(generation.prompt),
            limit=generation.limit,
            holds=holds,
            fails="fail" in words and not begun,
        )

    def status(self) -> ServiceStatus:
        return ServiceStatus()

    def submit(self, model: str, request: Any, on_done: Callable[[Any], None]) -> None:
        raise AssertionError("the page's chats do not run programs of their own")

    async def embed(self, model: str, prompts: Any) -> list[list[float]]:
        raise AssertionError("the page does not embed texts")

    async def call(self, model: str, work: Callable[[ChatModel], Any]) -> Any:
        return work(self.model(model).chat)
