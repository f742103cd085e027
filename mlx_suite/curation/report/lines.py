"""Line charts as inline SVG, with error bars; colours and fonts follow the page."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from mlx_suite.curation.report.svg import HUES, round_step, short

Place = Callable[[float, float], tuple[float, float]]
WIDTH, HEIGHT = 560, 290
LEFT, RIGHT, TOP, BOTTOM = 44, 158, 10, 40
MARKS = 4
"""Intervals of the vertical axis."""
MANY = 24
"""Points of a line that have a dot each, and values of the horizontal axis that have a mark each."""
TICK_WIDTH = 6.0
"""Pixels of a character of a mark, about."""
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


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """An axis: its ends, and the values that are marked."""

    low: float
    high: float
    marks: tuple[float, ...]
    is_log: bool = False

    def place(self, value: float) -> float:
        """Position on the axis, from 0 to 1; values outside are moved to its ends."""
        low, high = self.low, self.high
        if self.is_log:
            low, high, value = (math.log(max(each, self.low)) for each in (low, high, value))
        return max(0.0, min((value - low) / (high - low), 1.0)) if high > low else 0.5


def line_chart(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    title: str,
    log_x: bool = False,
    log_y: bool = False,
    from_zero: bool = True,
) -> str:
    """Lines over common axes with round marks.

    A point shows its standard deviation as a bar, and its numbers as a tooltip; of a long line, every few points do.

    Args:
        log_x: Make the horizontal axis logarithmic; all x are above 0.
        log_y: Make the vertical axis logarithmic; values of 0 or less are drawn at its lower end.
        from_zero: Begin the vertical axis at 0 if it is not logarithmic.
    """
    points = [point for line in lines for point in line.points]
    across = _horizontal(sorted({point.x for point in points}), log_x)
    up = _vertical(points, log_y, from_zero)
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return round(LEFT + across.place(x) * width, 1), round(TOP + height * (1 - up.place(y)), 1)

    parts = [f'<svg class="lines" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for mark in up.marks:
        _, y = place(across.low, mark)
        parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{y}" dy="3.5" text-anchor="end">{short(mark)}</text>')
    free = -1.0
    for mark in across.marks:
        x, _ = place(mark, up.low)
        half = TICK_WIDTH / 2 * len(short(mark))
        if x - half > free:
            text = f'<text class="tick" x="{x}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{short(mark)}</text>'
            parts.append(text)
            free = x + half + 2
    names = _spread([place(line.points[-1].x, line.points[-1].y)[1] for line in lines])
    for line, name_y in zip(lines, names, strict=True):
        parts += _drawn(line, place, name_y)
    middle = LEFT + width / 2
    parts.append(f'<text class="label" x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text class="label" x="{LEFT + 4}" y="{TOP + 10}">{escape(y_label)}</text></svg>')
    return "".join(parts)


def _horizontal(values: Sequence[float], is_log: bool) -> _Scale:
    """The values themselves are marked, or round ones if there are many."""
    low, high = values[0], values[-1]
    marks = tuple(values)
    if len(values) > MANY and not is_log:
        step = round_step((high - low) / MARKS)
        first = math.ceil(low / step - 1e-9)
        marks = tuple(round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1))
    return _Scale(low=low, high=high, marks=marks, is_log=is_log)


def _vertical(points: Sequence[LinePoint], is_log: bool, from_zero: bool) -> _Scale:
    top = max(1e-9, *(point.y + point.sd for point in points))
    if is_log:
        positive = [point.y for point in points if point.y > 0]
        return _log_scale(min(positive, default=1.0), top)
    bottom = 0.0 if from_zero else min(point.y - point.sd for point in points)
    step = round_step(max(top - bottom, 1e-6 * top) / MARKS)
    first = math.floor(bottom / step + 1e-9)
    number = MARKS if from_zero else max(1, math.ceil(top / step - 1e-9) - first)
    marks = tuple(round((first + each) * step, 10) for each in range(number + 1))
    return _Scale(low=marks[0], high=marks[-1], marks=marks)


def _log_scale(bottom: float, top: float) -> _Scale:
    """From one mark to another: powers of ten or, within a decade or two, 1, 2 and 5 times them."""
    decades = math.log10(top / bottom)
    factors = (1.0,) if decades > 2 else (1.0, 2.0, 5.0)
    powers = range(math.floor(math.log10(bottom)) - 1, math.ceil(math.log10(top)) + 2)
    usual = [factor * 10.0**power for power in powers for factor in factors]
    low = max(each for each in usual if each <= bottom * 1.0001)
    high = min(each for each in usual if each >= top * 0.9999 and each > low)
    marks = [each for each in usual if low <= each <= high]
    every = math.ceil(len(marks) / (MARKS + 4))
    return _Scale(low=low, high=high, marks=tuple(marks[::every]), is_log=True)


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
    every = -(-len(spots) // MANY)
    for point, (x, y) in list(zip(line.points, spots, strict=True))[::every]:
        if point.sd:
            upper, lower = place(point.x, point.y + point.sd)[1], place(point.x, point.y - point.sd)[1]
            parts.append(f'<path class="{hue}" d="M{x} {upper}V{lower}"/>')
        tip = f"{line.name}: {short(point.x)}, {point.y:.3g} ± {point.sd:.2g}"
        parts.append(f'<circle class="{hue}" cx="{x}" cy="{y}" r="3"><title>{escape(tip)}</title></circle>')
    x, _ = spots[-1]
    parts.append(f'<text class="{hue}" x="{x + 8}" y="{round(name_y, 1)}" dy="3.5">{escape(line.name)}</text>')
    return parts
