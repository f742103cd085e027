"""Line charts as inline SVG, with error bars; colours and fonts follow the page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from mlx_suite.curation.report.svg import HUES, round_step, short

Place = Callable[[float, float], tuple[float, float]]
WIDTH, HEIGHT = 560, 290
LEFT, RIGHT, TOP, BOTTOM = 44, 158, 10, 40
MARKS = 4
"""Intervals of the vertical axis."""
LABEL_GAP = 13
"""Minimum vertical distance between the names of two lines."""


@dataclass(frozen=True, kw_only=True)
class LinePoint:
    """A mean with its standard deviation."""

    x: float
    y: float
    sd: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a chart, named at its right end."""

    name: str
    hue: int
    """Colour number from 0; HUES and above are grey."""
    points: tuple[LinePoint, ...]
    dashed: bool = False


def line_chart(lines: Sequence[Line], *, x_label: str, y_label: str, title: str) -> str:
    """Lines over a common linear axis; the vertical axis begins at 0 and has round marks up to the highest point.

    A point shows its standard deviation as a bar, and its numbers as a tooltip.
    """
    points = [point for line in lines for point in line.points]
    low, high = min(point.x for point in points), max(point.x for point in points)
    step = round_step(max(1e-9, *(point.y + point.sd for point in points)) / MARKS)
    most = MARKS * step
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - low) / (high - low) if high > low else 0.5
        return round(LEFT + across * width, 1), round(TOP + height * (1 - max(0.0, min(y / most, 1.0))), 1)

    parts = [f'<svg class="lines" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for mark in range(MARKS + 1):
        value = step * mark
        _, y = place(low, value)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{y}" dy="3.5" text-anchor="end">{short(value)}</text>')
    for x in sorted({point.x for point in points}):
        across, _ = place(x, 0)
        parts.append(
            f'<text class="tick" x="{across}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{short(x)}</text>'
        )
    names = _spread([place(line.points[-1].x, line.points[-1].y)[1] for line in lines])
    for line, name_y in zip(lines, names, strict=True):
        parts += _drawn(line, place, name_y)
    middle = LEFT + width / 2
    parts.append(f'<text class="label" x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text class="label" x="{LEFT + 4}" y="{TOP + 10}">{escape(y_label)}</text></svg>')
    return "".join(parts)


def _spread(heights: list[float]) -> list[float]:
    """Heights for names beside the ends of lines, near them and at least `LABEL_GAP` apart."""
    order = sorted(range(len(heights)), key=lambda number: heights[number])
    spread = list(heights)
    for before, here in zip(order, order[1:], strict=False):
        spread[here] = max(spread[here], spread[before] + LABEL_GAP)
    lowest = float(HEIGHT - BOTTOM + LABEL_GAP)
    for here in reversed(order):
        spread[here] = min(spread[here], lowest)
        lowest = spread[here] - LABEL_GAP
    return spread


def _drawn(line: Line, place: Place, name_y: float) -> list[str]:
    hue = f"l{line.hue}" if line.hue < HUES else "lx"
    spots = [place(point.x, point.y) for point in line.points]
    dash = ' stroke-dasharray="4 3"' if line.dashed else ""
    parts = [f'<path class="{hue}"{dash} d="M{"L".join(f"{x} {y}" for x, y in spots)}"/>']
    for point, (x, y) in zip(line.points, spots, strict=True):
        if point.sd:
            upper, lower = place(point.x, point.y + point.sd)[1], place(point.x, point.y - point.sd)[1]
            parts.append(f'<path class="{hue}" d="M{x} {upper}V{lower}"/>')
        tip = f"{line.name}: {short(point.x)}, {point.y:.3g} ± {point.sd:.2g}"
        parts.append(f'<circle class="{hue}" cx="{x}" cy="{y}" r="3"><title>{escape(tip)}</title></circle>')
    x, _ = spots[-1]
    parts.append(f'<text class="{hue}" x="{x + 8}" y="{round(name_y, 1)}" dy="3.5">{escape(line.name)}</text>')
    return parts
