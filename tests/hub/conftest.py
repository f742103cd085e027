"""These tests run on the CPU, like those of the models, and against a hub on loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.server import REPO, Hub, Repository, checkpoint, running_hub
from tests.modeling.conftest import on_the_cpu

__all__ = ["on_the_cpu"]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "home" / "hub"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    with running_hub(monkeypatch, cache) as running:
        running.repositories[REPO] = Repository(checkpoint(), tags=("v1", "branch/one"))
        yield running
