"""The progress line on a terminal and in a pipe."""

import io
import sys
from collections.abc import Callable

import pytest

from mlx_suite.runtime.progress import Progress, duration


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def halfway(clock: Callable[[], float], stream: io.StringIO) -> Progress:
    progress = Progress("magpie", 200, stream=stream, clock=clock)
    assert isinstance(clock, Clock)
    clock.now += 20.0
    progress.update(100, kept=61, busy="97%")
    return progress


def test_the_line_shows_count_rate_time_and_figures() -> None:
    line = halfway(Clock(), io.StringIO()).line()

    assert line == "magpie  100/200 rows  5.0/s  0:20 left  kept 61  busy 97%"


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (
            80,
            "magpie  ━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌  100/200 rows  5.0/s  0:20 left  kept 61  busy 97%",
        ),
        (60, "magpie  100/200 rows  5.0/s  0:20 left  kept 61  busy 97%"),
        (50, "magpie  100/200 rows  5.0/s  0:20 left  kept 61"),
        (40, "magpie  100/200 rows  5.0/s  0:20 left"),
        (20, "magpie  100/200 row…"),
    ],
)
def test_a_narrow_terminal_drops_the_bar_then_the_figures(width: int, line: str) -> None:
    shown = halfway(Clock(), io.StringIO()).line(width)

    assert shown == line
    assert len(shown) <= width


def test_a_pipe_gets_a_plain_line_every_five_seconds_and_at_the_end() -> None:
    clock, stream = Clock(), io.StringIO()

    with Progress("train", 8, unit="steps", stream=stream, clock=clock) as progress:
        for _ in range(8):
            clock.now += 2.0
            progress.advance()

    assert stream.getvalue() == (
        "train  3/8 steps  2.0 s each  0:10 left\n"
        "train  6/8 steps  2.0 s each  0:04 left\n"
        "train  8/8 steps  2.0 s each  in 0:16\n"
    )


def test_items_of_an_earlier_run_count_towards_the_total_but_not_the_rate() -> None:
    clock = Clock()
    progress = Progress("magpie", 200, done=150, stream=io.StringIO(), clock=clock)
    assert progress.line() == "magpie  150/200 rows  in 0:00"

    clock.now = 10.0
    progress.advance(10)

    assert progress.line() == "magpie  160/200 rows  1.0/s  0:40 left"


def test_the_rate_covers_the_last_half_minute() -> None:
    clock = Clock()
    progress = Progress("magpie", None, stream=io.StringIO(), clock=clock)
    for _ in range(100):
        clock.now += 1.0
        progress.advance(1)
    for _ in range(40):
        clock.now += 1.0
        progress.advance(10)

    assert progress.rate == pytest.approx(10.0)
    assert progress.line() == "magpie  500 rows  10.0/s  in 2:20"


def test_on_a_terminal_the_line_is_redrawn_within_its_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()

    with Progress("magpie", 4, stream=stream) as progress:
        for kept in range(4):
            progress.advance(kept=kept)
        progress.note("row 3: cut off")

    text = stream.getvalue()
    assert "4/4 rows" in text
    assert "row 3: cut off" in text
    assert text.count("\n") == 2


def test_nothing_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("magpie", 1) as progress:
        progress.advance()

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("magpie  1/1 rows")
    assert sys.stdout is not None


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (42.4, "0:42"), (725, "12:05"), (11045, "3:04:05")])
def test_durations_are_shown_as_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text
