"""Input from a person: lines with history, completion and several rows. The only module that needs prompt_toolkit."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import Output

from .commands import completions

PROMPT, CONTINUED, WRAPPED = "> ", ". ", "  "
LEAVES = "Ctrl-C again, or Ctrl-D, leaves"
KEYS = [
    ("Enter", "Send the turn. A line that ends with \\ is continued, and so is one ended with Esc Enter."),
    ("Ctrl-C", "Stop the response, or clear the input; twice, or Ctrl-D, leaves."),
    ("//…", "A turn that begins with one slash."),
]


class TerminalReader:
    """Reads turns and commands at a prompt.

    Args:
        history: File of earlier inputs, created if missing; None keeps no file.
        status: Text of the bottom line.
        input, output: prompt_toolkit's, for tests.
    """

    keys = KEYS
    interactive = True

    def __init__(
        self,
        history: Path | None,
        status: Callable[[], str],
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self._status = status
        self._leaving = False
        """Whether the next Ctrl-C leaves."""
        self._session: PromptSession[str] = PromptSession(
            message=PROMPT,
            multiline=True,
            prompt_continuation=lambda width, line, wraps: WRAPPED if wraps else CONTINUED,
            key_bindings=self._bindings(),
            completer=_CommandCompleter(),
            complete_while_typing=True,
            history=InMemoryHistory() if history is None else file_history(history),
            bottom_toolbar=lambda: f" {LEAVES if self._leaving else self._status()}",
            reserve_space_for_menu=4,
            input=input,
            output=output,
        )
        self._session.default_buffer.on_text_changed += self._on_text

    def read(self, default: str) -> str | None:
        """The next input; None if the user leaves."""
        self._leaving = False
        try:
            return self._session.prompt(default=default)
        except EOFError:
            return None

    def _on_text(self, buffer: Buffer) -> None:
        self._leaving = False

    def _bindings(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.complete_state is not None and buffer.complete_state.current_completion is not None:
                buffer.complete_state = None  # the completion is in the input; Enter accepts it
            elif buffer.document.current_line_before_cursor.endswith("\\") and buffer.document.is_cursor_at_the_end:
                buffer.delete_before_cursor()
                buffer.newline(copy_margin=False)
            else:
                buffer.validate_and_handle()

        @keys.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.newline(copy_margin=False)

        @keys.add("c-c")
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if self._leaving and not buffer.text:
                event.app.exit(exception=EOFError)
            buffer.reset()
            self._leaving = True

        return keys


class _CommandCompleter(Completer):
    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        for text, replaced, help in completions(document.text_before_cursor):
            yield Completion(text, start_position=-replaced, display_meta=help)


def file_history(path: Path) -> History:
    """A history in a file that only its owner can read; in memory if the file cannot be written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
