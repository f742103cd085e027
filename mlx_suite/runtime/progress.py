"""A progress line for long jobs, on stderr only: stdout is for results.

On a terminal one line is redrawn in place at the terminal's current width; if it does not fit, the bar is dropped, then
the extra figures from the right. If stderr is a file or a pipe, a plain line is written every few seconds.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

_PLAIN_SECONDS = 5.0
_RATE_SECONDS = 30.0  # window of the rate: a slow start must not distort the ETA for hours
_RATE_UPDATES = 32  # fewest updates in it: rows of a batch often end together, after a minute without any
_NARROWEST_BAR = 8
_WIDEST_BAR = 40


class Progress:
    """Counts the finished items of a job and shows rate and remaining time.

        with Progress("magpie", total=200, unit="rows") as progress:
            progress.advance(kept=118)

    Args:
        label: Name of the job, one or two words.
        total: Items to finish; None if unknown.
        unit: Plural name of the items.
        done: Items finished by an earlier run; they count towards the total but not the rate.
        stream: Output; stderr by default.
        clock: Returns seconds since any origin.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        *,
        unit: str = "rows",
        done: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.done = done
        self.figures: dict[str, str] = {}
        """Extra figures shown after the time, by name."""
        self._clock = clock
        self._stream = stream or sys.stderr
        self._console = Console(file=self._stream, highlight=False)
        self._live: Live | None = None
        self._started = self._printed = clock()
        self._history: deque[tuple[float, int]] = deque([(self._started, done)])

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(self, console=self._console, refresh_per_second=4, redirect_stdout=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()
        elif error is None or self.done > self._history[0][1]:  # nothing to say about work that did not begin
            self._print()

    def advance(self, count: int = 1, **figures: object) -> None:
        """Count `count` more finished items; `figures`, such as `kept=118`, are shown at the end of the line."""
        self.update(self.done + count, **figures)

    def update(self, done: int, **figures: object) -> None:
        """Set the number of finished items."""
        now = self._clock()
        self.done = done
        self.figures.update({name.replace("_", " "): str(value) for name, value in figures.items()})
        self._history.append((now, done))
        while len(self._history) > _RATE_UPDATES and now - self._history[1][0] >= _RATE_SECONDS:
            self._history.popleft()
        if self._live is None and now - self._printed >= _PLAIN_SECONDS:
            self._print()

    def note(self, line: str) -> None:
        """Print a permanent line above the progress line."""
        self._console.print(Text(line))

    @property
    def rate(self) -> float:
        """Items per second over the last half minute, or the last updates if they took longer; 0 before the first."""
        (since, before), now = self._history[0], self._clock()
        return (self.done - before) / (now - since) if now > since else 0.0

    def line(self, width: int | None = None) -> str:
        """The line in at most `width` characters; without a width, the full line and no bar."""
        parts = [self.label, self._count()]
        if self.rate:
            parts.append(self._speed())
        parts.append(self._time())
        optional = [f"{name} {value}" for name, value in self.figures.items()]
        while width is not None and optional and len("  ".join(parts + optional)) > width:
            optional.pop()
        text = "  ".join(parts + optional)
        if width is None:
            return text
        bar = min(width - len(text) - 2, _WIDEST_BAR)
        if self.total and bar >= _NARROWEST_BAR:
            full = min(bar, round(bar * self.done / self.total))
            text = "  ".join([self.label, "━" * full + "╌" * (bar - full), *parts[1:], *optional])
        return text if len(text) <= width else text[: width - 1] + "…"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = self.line(options.max_width)
        if not console.encoding.lower().startswith("utf"):
            line = line.replace("━", "#").replace("╌", "-").replace("…", ">")
        yield Text(line, no_wrap=True, overflow="crop", end="")

    def _count(self) -> str:
        if not self.total:
            return f"{self.done} {self.unit}"
        return f"{self.done}/{self.total} {self.unit}"

    def _speed(self) -> str:
        if self.rate >= 0.95:
            return f"{self.rate:.{0 if self.rate >= 99.5 else 1}f}/s"
        return f"{1 / self.rate:.1f} s each"

    def _time(self) -> str:
        """Remaining time if known, otherwise elapsed time."""
        if self.total and self.rate and self.done < self.total:
            return f"{duration((self.total - self.done) / self.rate)} left"
        return f"in {duration(self._clock() - self._started)}"

    def _print(self) -> None:
        self._printed = self._clock()
        self._stream.write(self.line() + "\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """Seconds as "0:42", "12:05" or "3:04:05"."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
