"""A streamed response on a terminal, rendered as Markdown while it is written.

Blocks that are complete are printed for good. Only the last block is drawn again when text arrives, in a region lower
than the screen, so that nothing that has scrolled away would have to be erased.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.text import Text

REDRAWN = 0.08
"""Minimum seconds between two drawings of the last block."""
PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
PARSER.disable("reference")
"""Markdown without HTML and without definitions of links, which are shown as they are written instead of left out."""
CONTROLS = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}
"""Control characters and what is shown instead: no model may send escape sequences to the terminal."""


def visible(text: str) -> str:
    """The text with its control characters replaced by symbols, except newlines and tabs."""
    return text.translate(CONTROLS)


def rendered(text: str) -> Markdown:
    """Markdown for rich that hides nothing: HTML and line breaks are kept, and links show their addresses."""
    document = Markdown(text, hyperlinks=False)
    document.parsed = PARSER.parse(text)
    for token in document.parsed:
        for child in token.children or ():
            if child.type == "softbreak":  # the lines of a poem; rich would join them
                child.type = "hardbreak"
    return document


def block_starts(text: str) -> list[int]:
    """The offsets at which the top-level blocks of Markdown begin."""
    lines = {token.map[0] for token in PARSER.parse(text) if token.level == 0 and token.map}
    return [offset for number, offset in enumerate(_line_starts(text)) if number in lines]


def _line_starts(text: str) -> Iterator[int]:
    yield 0
    for place, letter in enumerate(text):
        if letter == "\n":
            yield place + 1


class PlainStream:
    """Prints a response as it is, for pipes and terminals without cursor control."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._ended = True

    def add(self, text: str) -> None:
        """Show more text."""
        self._write(text)
        self._ended = text.endswith("\n")

    def finish(self) -> None:
        """End the last line."""
        if not self._ended:
            self._write("\n")


class MarkdownStream:
    """Renders a response on a terminal; use as `with`, so that the cursor returns after an error."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tail = ""
        """The text that is not printed for good."""
        self._printed = False
        self._drawn = 0.0
        self._live = Live(
            Text("…", style="dim"),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> "MarkdownStream":
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def add(self, text: str) -> None:
        """Show more text."""
        self._tail += visible(text)
        now = time.monotonic()
        if now - self._drawn < REDRAWN:
            return
        self._drawn = now
        # A line that is not complete may still turn out to belong to the block before it.
        starts = block_starts(self._tail[: self._tail.rfind("\n") + 1])
        self._print(starts)
        self._tail = self._tail[starts[-1] :] if starts else self._tail
        self._live.update(_Block(self._tail, spaced=self._printed, ending=True), refresh=True)

    def finish(self) -> None:
        """Print what is left."""
        self._print([*block_starts(self._tail), len(self._tail)])
        self._tail = ""

    def _print(self, bounds: Sequence[int]) -> None:
        """Print the blocks of the tail that begin at all `bounds` but the last, where they end."""
        self._live.update(Text(""))
        for start, end in pairwise(bounds):
            self._console.print(_Block(self._tail[start:end], spaced=self._printed))
            self._printed = True


class _Block:
    """Rendered Markdown without blank lines around it, which rich prints around some blocks but not around others.

    Args:
        spaced: Whether a blank line comes first.
        ending: Whether only the last lines are shown, as many as the screen has room for.
    """

    def __init__(self, text: str, *, spaced: bool = False, ending: bool = False) -> None:
        self.text, self.spaced, self.ending = text, spaced, ending

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(rendered(self.text), options.update(height=None), pad=False)
        blank = [not "".join(segment.text for segment in line).strip() for line in lines]
        if all(blank):
            return
        lines = lines[blank.index(False) : len(lines) - blank[::-1].index(False)]
        if self.spaced:
            lines.insert(0, [])
        for line in lines[-max(1, console.size.height - 2) :] if self.ending else lines:
            yield from line
            yield Segment.line()
