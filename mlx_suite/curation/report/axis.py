"""The scale under a chart: from values to places between 0 and 1, and where to write numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WIDE = 12.0
"""The ratio of the highest to the middling value from which a scale of powers shows more than an even one."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An even scale, or one of powers."""

    low: float
    high: float
    edges: tuple[float, ...]
    """Of the bins."""
    ticks: tuple[float, ...]
    is_log: bool

    def place(self, value: float) -> float:
        """Between 0 and 1 for values on the axis."""
        low, high, value = (
            (math.log(self.low), math.log(self.high), math.log(max(value, self.low)))
            if self.is_log
            else (self.low, self.high, value)
        )
        return (value - low) / (high - low)


def axis_for(columns: Sequence[Sequence[float]], bins: int = 32) -> Axis:
    """An axis on which all values of all columns have a place; whole numbers get bins of whole numbers."""
    values = np.concatenate([np.asarray(column, float) for column in columns])
    least, most = float(values.min()), float(values.max())
    whole = bool((values == np.round(values)).all())
    if least >= 1 and most > WIDE * float(np.median(values)):
        return _log_axis(least, most, bins, whole)
    return _even_axis(least, most, bins, whole)


def share_axis(columns: Sequence[Sequence[float]], bins: int = 32) -> Axis:
    """An even axis from 0 up to at most 2, for distances."""
    most = max((float(np.max(column)) for column in columns if len(column)), default=1.0)
    ticks = _even_ticks(0.0, max(most, 1e-3))
    high = ticks[-1] if ticks[-1] >= most else ticks[-1] + (ticks[1] - ticks[0])
    return Axis(low=0.0, high=high, edges=_edges(0.0, high, bins), ticks=_even_ticks(0.0, high), is_log=False)


def short(value: float) -> str:
    """12k for 12,000."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _even_axis(least: float, most: float, bins: int, whole: bool) -> Axis:
    low = 0.0 if 0 <= least <= most / 2 or least == most >= 0 else least
    if whole:
        step = max(1, math.ceil((most - low + 1) / bins))
        low = math.floor(low)
        edges = tuple(low + step * each for each in range(math.ceil((most - low + 1) / step) + 1))
        return Axis(low=low, high=edges[-1], edges=edges, ticks=_even_ticks(low, edges[-1], whole), is_log=False)
    # Values that differ in their last digits only are one value.
    high = most if most - low > 1e-6 * max(most, 1) else low + 1
    return Axis(low=low, high=high, edges=_edges(low, high, bins), ticks=_even_ticks(low, high), is_log=False)


def _log_axis(least: float, most: float, bins: int, whole: bool) -> Axis:
    high = most * 1.0001 + (1 if whole else 0)
    edges = [float(each) for each in np.geomspace(least, high, bins + 1)]
    if whole:
        # Small whole numbers are further apart than the bins.
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


def _even_ticks(low: float, high: float, whole: bool = False, number: int = 5) -> tuple[float, ...]:
    """About `number` round values from low to high."""
    raw = (high - low) / number
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= raw * 0.999)
    if whole:
        step = max(1.0, round(step))
    first = math.ceil(low / step - 1e-9)
    return tuple(round(each * step, 10) for each in range(first, math.floor(high / step + 1e-9) + 1))
