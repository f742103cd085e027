"""Tests of threads and cores decide themselves how many processes share the machine."""

import pytest

from mlx_suite.runtime.container import PROCESSES


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the number of processes that `make test` sets."""
    monkeypatch.delenv(PROCESSES, raising=False)
