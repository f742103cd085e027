"""Charts as SVG that stands in the page.

Written out here rather than by matplotlib: colours and type are then the page's own, in light and in dark, nothing has
to be installed for a report, and the same numbers are the same bytes whatever library is there. Classes are those of
`style.css`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from mlx_suite.curation.report.axis import Axis, short

WIDTH, HEIGHT = 380, 190
"""Units of a histogram; shown at about one pixel a unit on a phone and on a desk."""
LEFT, RIGHT, TOP, BOTTOM = 36, 14, 8, 34
MAP_WIDTH, MAP_HEIGHT, MAP_EDGE = 640, 480, 10
HUES = 12
"""Colours of `style.css` for categories."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One row on a map."""

    x: float
    y: float
    hue: int
    """From 0; HUES and above are grey."""
    title: str
    """Shown when a pointer rests on it."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """What a map shows of the plane."""

    low: tuple[float, float]
    high: tuple[float, float]


def histogram(columns: Sequence[Sequence[float]], axis: Axis, label: str, title: str) -> str:
    """One column as bars of rows; two as shares, the first filled, the second as an outline."""
    counts = [np.histogram(np.asarray(column, float), np.asarray(axis.edges))[0] for column in columns]
    is_shared = len(columns) > 1
    heights = [100 * each / max(each.sum(), 1) if is_shared else each for each in counts]
    top, marks = _upright_scale(float(max(each.max() for each in heights)), is_shared)
    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for mark in marks:
        y = _y(mark / top)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        text = f"{short(mark)}{' %' if is_shared and mark == marks[-1] else ''}"
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
    """Rows as dots. Both directions have one scale, as distances on a map should."""
    width, height = (box.high[side] - box.low[side] for side in (0, 1))
    scale = min((MAP_WIDTH - 2 * MAP_EDGE) / max(width, 1e-9), (MAP_HEIGHT - 2 * MAP_EDGE) / max(height, 1e-9))
    left = (MAP_WIDTH - scale * width) / 2
    top = (MAP_HEIGHT - scale * height) / 2
    radius = 3.2 if len(points) > 600 else 4.2 if len(points) > 100 else 5.5
    dots = []
    for point in points:
        x = left + scale * (point.x - box.low[0])
        y = top + scale * (box.high[1] - point.y)
        hue = f"h{point.hue}" if point.hue < HUES else "hx"
        dots.append(f'<circle class="{hue}" cx="{x:.1f}" cy="{y:.1f}"><title>{escape(point.title)}</title></circle>')
    return (
        f'<svg class="map" style="--r:{radius}px" viewBox="0 0 {MAP_WIDTH} {MAP_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(dots)}</svg>'
    )


def box_around(points: Sequence[tuple[float, float]]) -> Box:
    """All points; a point alone gets some room."""
    values = np.asarray(points, float).reshape(-1, 2)
    low, high = values.min(axis=0), values.max(axis=0)
    room = np.where(high - low > 1e-9, 0.0, 0.5)
    low, high = low - room, high + room
    return Box(low=(float(low[0]), float(low[1])), high=(float(high[0]), float(high[1])))


def _bars(heights: np.ndarray, axis: Axis, top: float) -> str:
    parts = []
    for height, left, right in zip(heights, axis.edges, axis.edges[1:], strict=False):
        if height > 0:
            # Even one row among thousands is seen.
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


def _upright_scale(most: float, is_shared: bool) -> tuple[float, list[float]]:
    """The highest value with some room, and two or three round marks below it."""
    top = max(most, 1e-9) * 1.06
    if not is_shared:
        top = max(top, 1.0)
    power = 10.0 ** np.floor(np.log10(top / 2))
    step = float(max(each * power for each in (1, 2, 2.5, 5) if each * power <= top / 2))
    if not is_shared:
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
