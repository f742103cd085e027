"""A chat in a terminal or a pipe: the loop that reads turns and commands and shows responses."""

import signal
import sys
import termios
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TextIO

from rich.console import Console

from mlx_suite.runtime.errors import UserError

from .answer import Answer
from .commands import is_command, run_command
from .markdown import MarkdownStream, PlainStream, visible
from .session import ContextFull, Session

LOCAL_FLAGS = 3
"""Index in the attributes of a terminal (termios)."""
LABEL = 11
"""Columns of a label, including the space after it."""


class Reader(Protocol):
    """A source of turns and commands."""

    keys: list[tuple[str, str]]
    """Keys and what they do, for the help."""
    interactive: bool
    """Whether a person types."""

    def read(self, default: str) -> str | None:
        """The next input; None at the end. `default` is a text to begin with, if a person types."""
        ...


class PipeReader:
    """Reads one input per line."""

    keys: list[tuple[str, str]] = []
    interactive = False

    def __init__(self, lines: Iterable[bytes], name: str = "standard input") -> None:
        self._lines, self._name = enumerate(lines, start=1), name

    def read(self, default: str) -> str | None:
        """The next line without its end; None after the last. Raises UserError if it is not UTF-8."""
        for number, line in self._lines:
            try:
                return line.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"The line is not UTF-8 text: {error.reason} at byte {error.start}",
                    where=f"{self._name}:{number}",
                    fix="convert it to UTF-8 first",
                ) from error
        return None


@contextmanager
def without_echo() -> Iterator[None]:
    """Keep typed keys out of a response on the screen; the next prompt reads them. Ctrl-C discards no output."""
    if not sys.stdin.isatty():
        yield
        return
    number = sys.stdin.fileno()
    usual = termios.tcgetattr(number)
    quiet = [*usual]
    quiet[LOCAL_FLAGS] = usual[LOCAL_FLAGS] & ~termios.ECHO | termios.NOFLSH
    termios.tcsetattr(number, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, usual)


class Repl:
    """Reads turns, shows responses, runs commands. Errors of the user are shown and do not end it.

    Args:
        out, err: Where responses and results, and errors and notes, are written. Default: stdout and stderr.
    """

    def __init__(self, session: Session, reader: Reader, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.session, self._reader = session, reader
        self._out, self._err = out or sys.stdout, err or sys.stderr
        self._console = Console(file=self._out, highlight=False)
        self.keys = reader.keys
        self.file: Path | None = None
        """The file of the last /save or /load."""
        self.unsent: str | None = None
        """A turn that did not fit into the context."""
        self.leaving = False
        self.failed = False
        """Whether an error was shown."""
        self._default = ""
        self._editing = False

    def run(self) -> None:
        """Read and respond until the end of the input."""
        while not self.leaving:
            default, self._default = self._default, ""
            editing, self._editing = self._editing, False
            try:
                text = self._reader.read(default)
                if text is None:
                    return
                if text.strip():
                    self._handle(text, editing)
            except UserError as error:
                self.failed = True
                print(visible(str(self._explained(error))), file=self._err, flush=True)
            except KeyboardInterrupt:
                if not self._reader.interactive:
                    raise
                self.note("stopped")

    def _handle(self, text: str, editing: bool) -> None:
        if is_command(text):
            run_command(self, text)
            return
        turn = text[1:] if text.startswith("//") else text
        if editing:
            self.edit(turn)
        else:
            self.ask(turn)

    # ---- turns

    def ask(self, text: str) -> None:
        """Send a turn and show its response. A turn that does not fit into the context is kept as `unsent`."""
        self.unsent = None
        try:
            answer = self.stream(lambda on_text: self.session.ask(text, on_text))
        except ContextFull:
            self.unsent = text if self.session.messages else None
            raise
        if not answer.text.strip():
            self._offer(text)

    def edit(self, text: str) -> None:
        """Replace the last turn by `text` and show the new response; let the user edit the turn if that is empty."""
        last = self.session.instruction
        if not text and not self._reader.interactive:
            raise UserError("There is no new text", fix="/edit TEXT")
        self._offer(text or last)
        self._editing = True
        if text and self.stream(lambda on_text: self.session.edit(text, on_text)).text.strip():
            self._default, self._editing = "", False

    def stream(self, generate: Callable[[Callable[[str], None]], Answer]) -> Answer:
        """Show a response while it is generated; Ctrl-C stops it."""
        with self._stoppable():
            if self._console.is_terminal and not self._console.is_dumb_terminal and self._reader.interactive:
                with MarkdownStream(self._console) as rendered:
                    answer = generate(rendered.add)
                    rendered.finish()
            else:
                plain = PlainStream(self._write)
                answer = generate(plain.add)
                plain.finish()
        if self._reader.interactive:
            self._write("\n")
        if answer.reason != "stop":
            self.note(self.ending(answer))
        elif not answer.text.strip():
            self.note("the response is empty; the conversation is unchanged")
        return answer

    def offer_unsent(self) -> None:
        """Put a turn that did not fit back into the input."""
        if self.unsent is not None:
            self._offer(self.unsent)
            self.note("/retry sends the turn that did not fit")

    def _offer(self, turn: str) -> None:
        """Begin the next input with a turn."""
        self._default = f"/{turn}" if turn.startswith("/") else turn

    @staticmethod
    def ending(answer: Answer) -> str:
        """Why a response ended."""
        return {
            "stop": "complete",
            "limit": "truncated by max_tokens",
            "context": "truncated: the context is full; /drop makes room",
            "stopped": "stopped" if answer.text.strip() else "stopped before the first token",
        }[answer.reason]

    def _explained(self, error: UserError) -> UserError:
        """The error; the choices, if the conversation does not fit into the context."""
        if not isinstance(error, ContextFull) or not self.session.messages:
            return error
        send = ", and send the turn" if self.unsent is not None else ""
        return UserError(
            error.what + (". The turn was not sent" if send else ""),
            where=error.where,
            fix="choose one of these",
            details=[
                f"/drop    drop the oldest turns until it fits{send}",
                "/undo    remove the last turn and its response",
                "/reset   remove all turns",
            ],
        )

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Let Ctrl-C stop the response, if a person types."""
        if not self._reader.interactive:
            yield
            return
        usual = signal.signal(signal.SIGINT, lambda *_: self.session.stop())
        try:
            with without_echo():
                yield
        finally:
            signal.signal(signal.SIGINT, usual)

    # ---- output

    def say(self, text: str) -> None:
        """Print the result of a command."""
        self._write(self._safe(text) + "\n")

    def note(self, text: str) -> None:
        """Print a remark on stderr."""
        print(f"[{self._safe(text)}]", file=self._err, flush=True)

    def show(self, lines: Iterable[tuple[str, str]], label: int = LABEL) -> None:
        """Print labelled lines, wrapped next to the label on a terminal."""
        width = max(self._console.width - label, 20) if self._console.is_terminal else sys.maxsize
        for name, text in lines:
            parts = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
            for first, part in zip([name, *[""] * (len(parts) - 1)], parts, strict=True):
                self.say(f"{first:<{label}}{part}")

    def _write(self, text: str) -> None:
        self._out.write(self._safe(text))
        self._out.flush()

    def _safe(self, text: str) -> str:
        return visible(text) if self._console.is_terminal else text
