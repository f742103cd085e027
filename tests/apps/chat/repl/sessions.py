"""Sessions on the shipped models, each loaded once, and a record of the prompts that the engine was given."""

from functools import cache
from pathlib import Path

import pytest

from mlx_suite_apps.chat.repl import session as module
from mlx_suite_apps.chat.repl.session import Session
from mlx_suite_apps.chat.settings import ResponseSettings
from mlx_suite_apps.cli.checkpoint import Checkpoint, open_checkpoint


@cache
def opened(name: str, adapter: Path | None = None) -> Checkpoint:
    """A checkpoint without progress on stderr."""
    return open_checkpoint(name, quiet=True, adapter=adapter)


def new_session(name: str, system: str = "", **settings: float) -> Session:
    """A session with an empty conversation and an empty KV cache."""
    return Session(opened, name, system=system, settings=ResponseSettings(**settings))  # type: ignore[arg-type]


def record_prompts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """A list that grows by the prompt of every response."""
    prompts: list[tuple[int, ...]] = []
    program = module._program

    def recording(prompt: tuple[int, ...], sample: object) -> object:
        prompts.append(prompt)
        return program(prompt, sample)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_program", recording)
    return prompts
