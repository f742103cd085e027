"""Plot of a run: losses at the top, learning rate at the bottom."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlx_suite.runtime.files import write_atomically

INK, FAINT, GRID = "#1f2933", "#6b7785", "#e4e8ec"
TRAIN, VALID, RATE = "#4c78a8", "#d1602b", "#5f8f5f"
PIXELS_PER_INCH = 160
SMOOTH_FROM = 40
"""Minimum number of logged losses for drawing a running mean, because single steps are noisy."""

Line = Mapping[str, Any]


def plot_losses(lines: list[dict[str, Any]], path: Path) -> bool:
    """Plot the lines of metrics.jsonl as a PNG; returns False if matplotlib is not installed.

    The best validation loss is marked. The lower x axis shows steps, the upper one trained tokens.

    Raises UserError if the disk is full.
    """
    try:
        # Not pyplot, which keeps every figure and selects a GUI backend.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(8.0, 5.2), dpi=PIXELS_PER_INCH, layout="constrained", facecolor="white")
    canvas = FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    train = [line for line in lines if line["kind"] == "train" and math.isfinite(line["loss"])]
    valid = [line for line in lines if line["kind"] == "valid" and math.isfinite(line["loss"])]
    for axes in (above, below):
        _plain(axes)
    _draw_training(above, train)
    _draw_validation(above, valid)
    _draw_rate(below, train)
    last = max((line["step"] for line in train + valid), default=0)
    above.set_xlim(0, last or 1)
    if train or valid:
        above.legend(loc="best", frameon=False, labelcolor=INK, fontsize=9, handlelength=1.6)
    else:
        above.set_yticks([])
        above.text(0.5, 0.5, "nothing logged yet", transform=above.transAxes, ha="center", color=FAINT)
    _draw_tokens(above, train, last)
    picture = io.BytesIO()
    canvas.print_png(picture)
    write_atomically(path, picture.getvalue())
    return True


def _draw_training(axes: Any, train: Sequence[Line]) -> None:
    axes.set_ylabel("loss, nats per token")
    if not train:
        return
    steps, losses = [line["step"] for line in train], [line["loss"] for line in train]
    marker = "o" if len(train) < 3 else None  # a line through a single point is invisible
    if len(train) < SMOOTH_FROM:
        axes.plot(
            steps, losses, color=TRAIN, linewidth=1.6, marker=marker, markersize=4, clip_on=False, label="training"
        )
        return
    axes.plot(steps, losses, color=TRAIN, linewidth=0.8, alpha=0.35)
    axes.plot(steps, _running_mean(losses, len(losses) // 20), color=TRAIN, linewidth=1.8, label="training")


def _draw_validation(axes: Any, valid: Sequence[Line]) -> None:
    if not valid:
        return
    steps, losses = [line["step"] for line in valid], [line["loss"] for line in valid]
    axes.plot(steps, losses, color=VALID, linewidth=1.6, marker="o", markersize=3.5, clip_on=False, label="validation")
    at = min(range(len(valid)), key=losses.__getitem__)
    mark = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "markeredgewidth": 1.6}
    label = f"best: {losses[at]:.4f} at step {steps[at]:,}"
    axes.plot([steps[at]], [losses[at]], linestyle="none", color=VALID, clip_on=False, label=label, **mark)


def _draw_rate(axes: Any, train: Sequence[Line]) -> None:
    axes.set_ylabel("learning rate")
    axes.set_xlabel("step")
    if not train:
        axes.set_yticks([])
    else:
        rates = [line["learning_rate"] for line in train]
        marker = "o" if len(train) < 3 else None
        axes.plot(
            [line["step"] for line in train],
            rates,
            color=RATE,
            linewidth=1.4,
            marker=marker,
            markersize=4,
            clip_on=False,
        )
        axes.set_ylim(0, 1.15 * max(rates) or 1)
        axes.yaxis.set_major_locator(_few(3))
        axes.yaxis.set_major_formatter(lambda rate, _: "0" if rate == 0 else _short_rate(rate))
    axes.xaxis.set_major_locator(_few(8, integer=True))
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")


def _draw_tokens(axes: Any, train: Sequence[Line], last: int) -> None:
    """Draw the upper x axis: round numbers of trained tokens at the steps that reached them."""
    if len(train) < 2 or not train[-1]["tokens"]:
        return
    steps, tokens = [0, *(line["step"] for line in train)], [0, *(line["tokens"] for line in train)]
    round_ones = [count for count in _few(6).tick_values(0, tokens[-1]) if 0 <= count <= tokens[-1]]
    upper = axes.secondary_xaxis("top")
    upper.set_ticks([_between(count, tokens, steps) for count in round_ones], [_short(c) for c in round_ones])
    upper.set_xlabel("trained tokens", color=FAINT, fontsize=9)
    upper.tick_params(colors=FAINT, labelsize=8, length=3)
    upper.spines["top"].set_visible(False)


def _plain(axes: Any) -> None:
    """Style the axes: only left and bottom spines, and a grid below the curves."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=FAINT, labelsize=8, length=3)
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=FAINT, fontsize=9)


def _few(bins: int, integer: bool = False) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=bins, integer=integer, steps=[1, 2, 2.5, 5, 10])


def _running_mean(values: Sequence[float], reach: int) -> list[float]:
    """Centered running mean over up to `reach` neighbors on each side, the same number on both."""
    means = []
    for at in range(len(values)):
        near = min(reach, at, len(values) - 1 - at)
        means.append(sum(values[at - near : at + near + 1]) / (2 * near + 1))
    return means


def _between(value: float, known: Sequence[float], results: Sequence[float]) -> float:
    """Linearly interpolate at `value` between `results` at the increasing points `known`."""
    at = next((i for i in range(1, len(known)) if known[i] >= value), len(known) - 1)
    width = known[at] - known[at - 1]
    share = (value - known[at - 1]) / width if width else 1.0
    return results[at - 1] + share * (results[at] - results[at - 1])


def _short_rate(rate: float) -> str:
    """Format a learning rate: 2e-4 for 0.0002."""
    digits, power = f"{rate:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def _short(count: float) -> str:
    """Format a count: 1.2 M for 1,200,000."""
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.4g}{unit}"
    return f"{count:.4g}"
