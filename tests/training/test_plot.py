"""Plots of logs of every length."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from mlx_suite.training.plot import _between, _running_mean, _short, _short_rate, plot_losses

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def lines(count: int) -> list[dict[str, Any]]:
    """The first `count` lines of a log: an evaluation, steps, an evaluation, …"""
    found: list[dict[str, Any]] = []
    for step in range(count):
        loss = 2.0 * math.exp(-step / 20) + 1
        found.append({"kind": "valid", "step": step * 10, "loss": loss + 0.1, "best": True})
        found.append(
            {"kind": "train", "step": step * 10 + 10, "loss": loss, "learning_rate": 2e-4, "tokens": 900 * (step + 1)}
        )
    return found[:count]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [0, 1, 2, 3, 200])
def test_a_log_of_any_length_is_plotted_without_warnings(tmp_path: Path, count: int) -> None:
    pytest.importorskip("matplotlib")
    assert plot_losses(lines(count), tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(SIGNATURE)
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "odd",
    [
        {"kind": "valid", "step": 20, "loss": math.nan, "best": False},
        {"kind": "train", "step": 20, "loss": math.inf, "learning_rate": 0.0, "tokens": 0},
        {"kind": "train", "step": 20, "loss": 1.0, "learning_rate": 0.0, "tokens": 0},
    ],
)
def test_unusual_lines_do_not_break_the_plot(tmp_path: Path, odd: dict[str, Any]) -> None:
    pytest.importorskip("matplotlib")
    assert plot_losses([*lines(3), odd], tmp_path / "loss.png")
    assert plot_losses([odd], tmp_path / "loss.png")


def test_pyplot_is_not_imported(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    had = "matplotlib.pyplot" in sys.modules
    plot_losses(lines(4), tmp_path / "loss.png")
    assert ("matplotlib.pyplot" in sys.modules) == had


def test_without_matplotlib_nothing_is_plotted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not plot_losses(lines(4), tmp_path / "loss.png")
    assert list(tmp_path.iterdir()) == []


def test_a_running_mean_is_centred_and_keeps_the_end_values() -> None:
    assert _running_mean([1, 2, 3, 4, 5], 1) == [1, 2, 3, 4, 5]
    assert _running_mean([0, 3, 0, 3, 0], 1) == [0, 1, 2, 1, 0]
    assert _running_mean([], 3) == []


def test_token_labels_are_at_the_steps_that_reached_them() -> None:
    steps, tokens = [0, 10, 20], [0, 100, 400]
    assert [_between(count, tokens, steps) for count in (0, 50, 100, 250, 400)] == [0, 5, 10, 15, 20]


def test_numbers_are_abbreviated() -> None:
    assert [_short(count) for count in (0, 950, 1500, 2_000_000, 1.2e9)] == ["0", "950", "1.5 k", "2 M", "1.2 B"]
    assert [_short_rate(rate) for rate in (2e-4, 1.5e-5)] == ["2e-4", "1.5e-5"]
