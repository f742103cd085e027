"""Output of commands: labelled lines such as `tokens     5,666 trained`, and progress lines."""

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

from mlx_suite.runtime.progress import Progress

if TYPE_CHECKING:
    from mlx_suite.curation.set_aside import SetAside
    from mlx_suite.evaluate.microworld import Truth

LABEL = 11
"""Columns of a label, including the space after it."""


def show(lines: Iterable[tuple[str, str]], stream: TextIO | None = None) -> None:
    """Print (label, text) lines to stdout, or to `stream`.

    On a terminal, long lines wrap next to the label, but never within a word, so that paths can be copied. Elsewhere
    nothing wraps, so that programs can read the lines.
    """
    stream = stream or sys.stdout
    width = max(shutil.get_terminal_size().columns - LABEL, 20) if stream.isatty() else sys.maxsize
    for label, line in lines:
        parts = textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
        for first, part in zip([label, *[""] * (len(parts) - 1)], parts, strict=True):
            print(f"{first:<{LABEL}}{part}", file=stream)


def verdict_lines(sides: "Mapping[str, Truth]") -> list[tuple[str, str]]:
    """The microworld's verdicts on responses, one line per side."""
    return [
        (
            "" if number else "confirmed",
            f"{name}: {each.right:,} of {each.recognised:,} right, {each.share_of_recognised:.0%}",
        )
        for number, (name, each) in enumerate(sides.items())
    ]


def show_set_aside(rows: "Sequence[SetAside]", total: int, why: str = "cannot be read") -> None:
    """Print on stderr which rows of the data are set aside; `--quiet` does not hide it."""
    from mlx_suite.curation.set_aside import set_aside_lines

    for line in set_aside_lines(rows, total, why):
        print(line, file=sys.stderr)


@contextmanager
def progress_lines(unit: str, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A callback `(stage, done, total)` that shows one progress line per stage, one stage at a time.

    A line starts at the progress of an earlier run; a stage that is already complete gets none.
    """
    with ExitStack() as stack:
        lines: dict[str, Progress] = {}

        def update(stage: str, done: int, total: int) -> None:
            if quiet or (stage not in lines and done == total):
                return
            if stage not in lines:
                stack.close()
                lines[stage] = stack.enter_context(Progress(stage, total, unit=unit, done=done))
            lines[stage].update(done)

        yield update
