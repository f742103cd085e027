"""Lines with a label in front: `tokens     5,666 trained`."""

import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import TextIO

LABEL = 11
"""Width of a label and the space after it, in columns."""


def show(lines: Iterable[tuple[str, str]], stream: TextIO | None = None) -> None:
    """Write lines to stdout, or `stream`.

    On a terminal, long lines wrap beside the label; paths and commands stay whole, so that they can be copied.
    Elsewhere each stays one line, for programs that read it.
    """
    stream = stream or sys.stdout
    width = max(shutil.get_terminal_size().columns - LABEL, 20) if stream.isatty() else sys.maxsize
    for label, line in lines:
        parts = textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
        for first, part in zip([label, *[""] * (len(parts) - 1)], parts, strict=True):
            print(f"{first:<{LABEL}}{part}", file=stream)
