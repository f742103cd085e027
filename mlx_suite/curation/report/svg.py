"""Charts as inline SVG: axes, histograms and scatter plots.

No matplotlib: colours and fonts follow the page in light and dark mode, a report needs no extra package, and the same
numbers give the same bytes. The CSS classes are defined in `style.css`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 380, 190
"""Size of a histogram, about one pixel per unit."""
LEFT, RIGHT, TOP, BOTTOM = 36, 14, 8, 34
MAP_WIDTH, MAP_HEIGHT, MAP_EDGE = 640, 480, 10
HUES = 12
"""Category colours in `style.css`."""
LOG_RATIO = 12.0
"""Ratio of maximum to median above which an axis is logarithmic."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A horizontal axis, linear or logarithmic."""

    low: float
    high: float
    edges: tuple[float, ...]
    """Bin edges."""
    ticks: tuple[float, ...]
    is_log: bool

    def place(self, value: float) -> float:
        """Position of a value on the axis, from 0 to 1."""
        low, high, value = (
            (math.log(self.low), math.log(self.high), math.log(max(value, self.low)))
            if self.is_log
            else (self.low, self.high, value)
        )
        return (value - low) / (high - low)


def axis_for(columns: Sequence[Sequence[float]], bins: int = 32) -> Axis:
    """An axis that covers all values of all columns; integers get integer bins."""
    values = np.concatenate([np.asarray(column, float) for column in columns])
    least, most = float(values.min()), float(values.max())
    whole = bool((values == np.round(values)).all())
    if least >= 1 and most > LOG_RATIO * float(np.median(values)):
        return _log_axis(least, most, bins, whole)
    return _linear_axis(least, most, bins, whole)


def distance_axis(columns: Sequence[Sequence[float]], bins: int = 32) -> Axis:
    """A linear axis from 0, for distances up to 2."""
    most = max((float(np.max(column)) for column in columns if len(column)), default=1.0)
    ticks = _linear_ticks(0.0, max(most, 1e-3))
    high = ticks[-1] if ticks[-1] >= most else ticks[-1] + (ticks[1] - ticks[0])
    return Axis(low=0.0, high=high, edges=_edges(0.0, high, bins), ticks=_linear_ticks(0.0, high), is_log=False)


def short(value: float) -> str:
    """Format a tick label: 12k for 12,000."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _linear_axis(least: float, most: float, bins: int, whole: bool) -> Axis:
    low = 0.0 if 0 <= least <= most / 2 or least == most >= 0 else least
    if whole:
        step = max(1, math.ceil((most - low + 1) / bins))
        low = math.floor(low)
        edges = tuple(low + step * each for each in range(math.ceil((most - low + 1) / step) + 1))
        return Axis(low=low, high=edges[-1], edges=edges, ticks=_linear_ticks(low, edges[-1], whole), is_log=False)
    # Values that differ only by rounding count as one.
    high = most if most - low > 1e-6 * max(most, 1) else low + 1
    return Axis(low=low, high=high, edges=_edges(low, high, bins), ticks=_linear_ticks(low, high), is_log=False)


def _log_axis(least: float, most: float, bins: int, whole: bool) -> Axis:
    high = most * 1.0001 + (1 if whole else 0)
    edges = [float(each) for each in np.geomspace(least, high, bins + 1)]
    if whole:
        # Small integers are further apart than the bins.
        edges = sorted({float(math.ceil(edge)) for edge in edges} | {float(math.floor(least))})
        high = max(edges[-1], high)
        edges[-1] = high
    low = edges[0]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    decades = math.log10(high / low)
    steps = (1.0, 2.0, 5.0) if decades < 3.2 else (1.0, 3.0) if decades < 4.5 else (1.0,)
    ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
    return Axis(low=low, high=high, edges=tuple(edges), ticks=tuple(ticks), is_log=True)


def _edges(low: float, high: float, bins: int) -> tuple[float, ...]:
    return tuple(low + (high - low) * each / bins for each in range(bins + 1))


def _linear_ticks(low: float, high: float, whole: bool = False, number: int = 5) -> tuple[float, ...]:
    """About `number` round values from low to high."""
    step = round_step((high - low) / number)
    if whole:
        step = max(1.0, round(step))
    first = math.ceil(low / step - 1e-9)
    return tuple(round(each * step, 10) for each in range(first, math.floor(high / step + 1e-9) + 1))


def round_step(least: float) -> float:
    """The smallest round number that is not below `least`, for the marks of an axis."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= least * 0.999)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One dot of a scatter plot."""

    x: float
    y: float
    hue: int
    """Colour number from 0; HUES and above are grey."""
    title: str
    """Tooltip of the dot."""


Box = tuple[tuple[float, float], tuple[float, float]]
"""Lower left and upper right corner (x, y) of a scatter plot."""


def histogram(columns: Sequence[Sequence[float]], axis: Axis, label: str, title: str) -> str:
    """Histogram of one column as row counts, or of two as percentages, the second outlined."""
    counts = [np.histogram(np.asarray(column, float), np.asarray(axis.edges))[0] for column in columns]
    as_percent = len(columns) > 1
    heights = [100 * each / max(each.sum(), 1) if as_percent else each for each in counts]
    top, marks = _vertical_scale(float(max(each.max() for each in heights)), as_percent)
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for mark in marks:
        y = _y(mark / top)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        text = f"{short(mark)}{' %' if as_percent and mark == marks[-1] else ''}"
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{y}" dy="3.5" text-anchor="end">{text}</text>')
    for number, column in enumerate(heights):
        draw = _bars if number == 0 else _outline
        parts.append(f'<path class="series-{"ab"[number]}" d="{draw(column, axis, top)}"/>')
    parts.append(f'<path class="axis" d="M{LEFT} {_y(0)}H{WIDTH - RIGHT}"/>')
    parts += _ticks(axis)
    parts.append(
        f'<text class="label" x="{_x(0.5)}" y="{HEIGHT - 3}" text-anchor="middle">{escape(label)}</text></svg>'
    )
    return "".join(parts)


def scatter(points: Sequence[Point], box: Box, title: str) -> str:
    """A scatter plot with the same scale in both directions, as on a map."""
    (left_x, low_y), (right_x, high_y) = box
    width, height = right_x - left_x, high_y - low_y
    scale = min((MAP_WIDTH - 2 * MAP_EDGE) / max(width, 1e-9), (MAP_HEIGHT - 2 * MAP_EDGE) / max(height, 1e-9))
    left = (MAP_WIDTH - scale * width) / 2
    top = (MAP_HEIGHT - scale * height) / 2
    radius = 3.2 if len(points) > 600 else 4.2 if len(points) > 100 else 5.5
    dots = []
    for point in points:
        x = left + scale * (point.x - left_x)
        y = top + scale * (high_y - point.y)
        hue = f"h{point.hue}" if point.hue < HUES else "hx"
        dots.append(f'<circle class="{hue}" cx="{x:.1f}" cy="{y:.1f}"><title>{escape(point.title)}</title></circle>')
    return (
        f'<svg class="map" style="--r:{radius}px" viewBox="0 0 {MAP_WIDTH} {MAP_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(dots)}</svg>'
    )


def box_around(points: Sequence[tuple[float, float]]) -> Box:
    """The bounding box of all points; a single point gets a margin."""
    values = np.asarray(points, float).reshape(-1, 2)
    low, high = values.min(axis=0), values.max(axis=0)
    margin = np.where(high - low > 1e-9, 0.0, 0.5)
    (low_x, low_y), (high_x, high_y) = (low - margin).tolist(), (high + margin).tolist()
    return (low_x, low_y), (high_x, high_y)


def _bars(heights: np.ndarray, axis: Axis, top: float) -> str:
    parts = []
    for height, left, right in zip(heights, axis.edges, axis.edges[1:], strict=False):
        if height > 0:
            # Keep one row among thousands visible.
            y = min(_y(float(height) / top), _y(0) - 1)
            start, end = _x(axis.place(left)), _x(axis.place(right))
            gap = 0.5 if end - start > 3 else 0
            parts.append(f"M{start + gap:.1f} {_y(0)}V{y:.1f}H{end - gap:.1f}V{_y(0)}z")
    return "".join(parts)


def _outline(heights: np.ndarray, axis: Axis, top: float) -> str:
    path = f"M{_x(0):.1f} {_y(0)}"
    for height, right in zip(heights, axis.edges[1:], strict=True):
        path += f"V{_y(float(height) / top):.1f}H{_x(axis.place(right)):.1f}"
    return path + f"V{_y(0)}"


def _vertical_scale(most: float, as_percent: bool) -> tuple[float, list[float]]:
    """The top of the vertical axis, just above the maximum, and two or three round marks below it."""
    top = max(most, 1e-9) * 1.06
    if not as_percent:
        top = max(top, 1.0)
    power = 10.0 ** np.floor(np.log10(top / 2))
    step = float(max(each * power for each in (1, 2, 2.5, 5) if each * power <= top / 2))
    if not as_percent:
        step = max(1.0, float(np.floor(step)))
    return top, [step * each for each in range(int(top // step) + 1)][:4]


def _ticks(axis: Axis) -> list[str]:
    parts, free = [], -1.0
    for tick in axis.ticks:
        x = _x(axis.place(tick))
        text = short(tick)
        half = 3.4 * len(text)
        parts.append(f'<path class="axis" d="M{x} {_y(0)}v4"/>')
        if x - half > free and x + half < WIDTH:
            parts.append(f'<text class="tick" x="{x}" y="{_y(0) + 15}" text-anchor="middle">{text}</text>')
            free = x + half + 4
    return parts


def _x(place: float) -> float:
    return round(LEFT + place * (WIDTH - LEFT - RIGHT), 1)


def _y(place: float) -> float:
    return round(HEIGHT - BOTTOM - place * (HEIGHT - BOTTOM - TOP), 1)
