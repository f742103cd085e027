"""Services on the shipped checkpoints, and helpers that read their streams to the end."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from mlx_suite.engine import Sampling
from mlx_suite.serving.engine_service import EngineService
from mlx_suite.serving.generation import Delta, Ended, Generation
from mlx_suite.serving.worker import Limits, Worker
from mlx_suite.text import Message
from mlx_suite_apps.chat.served_models import load_models
from mlx_suite_apps.cli.checkpoint import open_checkpoint


def make_service(*models: str, limits: Limits | None = None, seconds: float = 60.0) -> EngineService:
    """A started service; `service.worker.close()` ends it."""

    def load() -> Any:
        return load_models(models, {}, lambda name: open_checkpoint(name, quiet=True))

    worker = Worker(load, lambda: limits or Limits())
    worker.start()
    return EngineService(worker, seconds=seconds)


@pytest.fixture(scope="session")
def service() -> Iterator[EngineService]:
    """Both shipped checkpoints."""
    made = make_service("tiny-llama3", "tiny-gemma2")
    yield made
    made.worker.close()


@dataclass(frozen=True)
class Answer:
    """A choice that has ended."""

    text: str
    ended: Ended


def asking(service: EngineService, model: str, text: str, **settings: Any) -> Generation:
    """A greedy request for the response to a user turn."""
    chat = service.model(model).chat
    generation = Generation(
        model=model,
        prompt=chat.prompt_ids([Message("user", text)]),
        limit=32,
        sampling=Sampling(temperature=0.0),
        stop=chat.response_ends,
    )
    return replace(generation, **settings)


async def answers(service: EngineService, generation: Generation) -> list[Answer]:
    """All choices of a request."""
    texts = [""] * generation.choices
    ends: dict[int, Ended] = {}
    async for event in await service.start(generation):
        if isinstance(event, Delta):
            texts[event.choice] += event.text
        elif isinstance(event, Ended):
            ends[event.choice] = event
    return [Answer(text, ends[choice]) for choice, text in enumerate(texts)]


async def answer(service: EngineService, generation: Generation) -> Answer:
    """The only choice of a request."""
    [only] = await answers(service, generation)
    return only


def ask(service: EngineService, model: str, text: str, **settings: Any) -> Answer:
    """The answer to a user turn, waited for."""
    return asyncio.run(answer(service, asking(service, model, text, **settings)))
