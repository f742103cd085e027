"""Reads a response as it is written: thoughts, text and tool calls. Events do not depend on how the text was split."""

import json
import re
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from mlx_suite.serving.chat import ReasoningDelta, TextDelta, ToolCall, ToolCallDelta
from mlx_suite.serving.generation import Token
from mlx_suite.serving.tool_format import ToolFormat

OPEN_THOUGHT, CLOSE_THOUGHT = "<think>", "</think>"
CALL_KEYS = frozenset({"name", "type", "function", "parameters", "arguments"})
"""First keys of an object that may be a call. Some models write `{"type": "function", "name": …`."""
FIRST_KEY = re.compile(r'\{\s*"([^"\\]*)"')
Part = TextDelta | ReasoningDelta | ToolCallDelta


class ResponseReader:
    """Turns the text of one choice into events.

    Text that may be part of a tag is held back until it is clear. A call is reported when it is complete; what turns
    out not to be one is text, unchanged.
    """

    def __init__(
        self, choice: int = 0, format: ToolFormat | None = None, tools: Collection[str] = (), thinking: bool = False
    ) -> None:
        """`tools` are the names that calls without tags must have; `thinking`: the prompt has opened <think>."""
        self._choice, self._format, self._tools = choice, format, frozenset(tools)
        self._held = ""
        """Text that has not been reported."""
        self._state: Callable[[], bool] = self._thought if thinking else self._start
        self._fresh = True
        """Whether nothing but whitespace precedes in this part of the response."""
        self._blank_line = True
        """Whether the reported text ends with an empty line."""
        self._calls = 0
        self._extent: JsonExtent | None = None
        self._ended = False
        self._parts: list[Part] = []
        self._tokens: list[Token] = []

    def read(self, text: str, tokens: Sequence[Token] = ()) -> list[Part]:
        """Events that are certain after more text; the tokens go to the next event."""
        self._held += text
        self._tokens += tokens
        while self._state():
            pass
        return self._taken()

    def finish(self) -> list[Part]:
        """Events at the end of the response, for what was held back."""
        self._ended = True
        while self._state():
            pass
        if self._tokens and not self._parts:
            self._parts.append(TextDelta(choice=self._choice, text=""))
        return self._taken()

    def _taken(self) -> list[Part]:
        taken, self._parts = self._parts, []
        if taken and self._tokens:
            taken[0] = replace(taken[0], tokens=tuple(self._tokens))
            self._tokens = []
        return taken

    # ---- states: each handles what it can of the held text, and returns whether the next one is to go on

    def _start(self) -> bool:
        text = self._held.lstrip()
        if not self._ended and OPEN_THOUGHT.startswith(text):
            return False
        if text.startswith(OPEN_THOUGHT):
            self._held, self._state = text.removeprefix(OPEN_THOUGHT), self._thought
        else:
            self._state = self._text_state()
        return True

    def _thought(self) -> bool:
        if self._fresh:
            self._held = self._held.lstrip()
        end = self._held.find(CLOSE_THOUGHT)
        if end >= 0:
            self._report_thought(self._held[:end].rstrip())
            self._held, self._fresh = self._held[end + len(CLOSE_THOUGHT) :], True
            self._state = self._gap
            return True
        keep = len(self._held) if self._ended else _certain(self._held, CLOSE_THOUGHT)
        self._report_thought(self._held[:keep])
        self._held = self._held[keep:]
        return False

    def _gap(self) -> bool:
        """Whitespace between a thought and the response."""
        self._held = self._held.lstrip()
        if self._held:
            self._state = self._text_state()
        return bool(self._held)

    def _text_state(self) -> Callable[[], bool]:
        return self._leading if self._format is not None and self._format.kind == "leading" else self._text

    def _text(self) -> bool:
        format = self._format
        if format is None or format.kind == "leading":
            self._report_text(self._held)
            self._held = ""
            return False
        place = self._opening(format)
        if place is not None:
            kept = len(self._held[:place].rstrip())
            self._report_text(self._held[:kept])
            self._held, self._state, self._extent = self._held[kept:], self._call, None
            return True
        keep = len(self._held) if self._ended else _certain(self._held, format.open)
        if self._ended and self._calls and not self._held.strip():
            keep = 0  # whitespace after the last call
        self._report_text(self._held[:keep])
        self._held = self._held[keep:]
        return False

    def _opening(self, format: ToolFormat) -> int | None:
        """Where a call may begin in the held text."""
        place = self._held.find(format.open)
        while place >= 0:
            line = self._held[:place].rpartition("\n")
            if format.close or (not line[2].strip() and (line[1] or self._blank_line)):
                return place
            place = self._held.find(format.open, place + 1)
        return None

    def _call(self) -> bool:
        """A call in tags or on a line of its own; the held text is whitespace and the call."""
        format = self._format
        assert format is not None
        begin = self._held.index(format.open)
        body = begin + len(format.open) if format.close else begin
        if self._extent is None:
            self._extent = JsonExtent(body)
        end = self._extent.end(self._held)
        if end is None and not self._ended and not self._extent.failed:
            return False
        if end is not None:
            after = self._held[end:]
            past = _past_close(after, format.close, self._ended)
            if past is None:
                return False
            call = self._parsed(self._held[self._extent.start : end], named=not format.close)
            if past >= 0 and call is not None:
                self._report_call(call)
                self._held, self._state, self._blank_line = after[past:], self._text, False
                return True
        # Not a call: its beginning is text, and a call may begin in the rest.
        self._report_text(self._held[: begin + len(format.open)])
        self._held, self._state = self._held[begin + len(format.open) :], self._text
        return True

    def _leading(self) -> bool:
        """Objects at the start of the response."""
        format = self._format
        assert format is not None
        if self._calls:
            self._held = self._held.lstrip("; \t\r\n")
        text = self._held.lstrip()
        if not self._ended and format.prefix.startswith(text):
            return False
        if text.startswith(format.prefix):
            self._held = text.removeprefix(format.prefix)
            return True
        key = FIRST_KEY.match(text)
        if (text and not text.startswith("{")) or (key and key[1] not in CALL_KEYS):
            self._state = self._text
            return True
        if self._extent is None:
            self._extent = JsonExtent(0)
        end = self._extent.end(self._held)
        if end is None and not self._ended:
            return False
        call = None if end is None else self._parsed(self._held[self._extent.start : end], named=True)
        if end is None or call is None:
            self._state = self._text
            return True
        self._report_call(call)
        self._held, self._extent = self._held[end:], None
        return bool(self._held)

    # ---- reports

    def _parsed(self, text: str, *, named: bool) -> tuple[str, str] | None:
        """Name and arguments of a call; None if the object is not one. `named`: only for a known tool."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if isinstance(value, dict) and isinstance(value.get("function"), dict):
            value = value["function"]
        name = value.get("name") if isinstance(value, dict) else None
        if not isinstance(name, str) or (named and name not in self._tools):
            return None
        arguments = value.get("arguments", value.get("parameters", None if named else {}))
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                return None
        return (name, json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None

    def _report_call(self, call: tuple[str, str]) -> None:
        made = ToolCall(id=f"call_{secrets.token_hex(12)}", name=call[0], arguments=call[1])
        self._parts.append(ToolCallDelta(choice=self._choice, index=self._calls, call=made))
        self._calls += 1

    def _report_thought(self, text: str) -> None:
        if text:
            self._fresh = False
            self._parts.append(ReasoningDelta(choice=self._choice, text=text))

    def _report_text(self, text: str) -> None:
        if not text:
            return
        _, newline, line = text.rpartition("\n")
        self._blank_line = not line.strip() and (bool(newline) or self._blank_line)
        last = self._parts[-1] if self._parts else None
        if isinstance(last, TextDelta):
            self._parts[-1] = replace(last, text=last.text + text)
        else:
            self._parts.append(TextDelta(choice=self._choice, text=text))


class JsonExtent:
    """Scans an object once, however often more text arrives. Only brackets and quotes are looked at."""

    def __init__(self, start: int) -> None:
        self.start = start
        """Place of its opening brace, whitespace before it skipped."""
        self.failed = False
        """Whether the text does not begin with an object."""
        self._place, self._depth = start, 0
        self._quoted = self._escaped = False
        self._end: int | None = None

    def end(self, text: str) -> int | None:
        """The place after the object; None while it is not complete. `text` is what came before, and more."""
        while self._end is None and not self.failed and self._place < len(text):
            letter = text[self._place]
            self._place += 1
            if self._quoted:
                self._quoted = self._escaped or letter != '"'
                self._escaped = letter == "\\" and not self._escaped
            elif self._depth == 0 and letter != "{":
                self.failed = not letter.isspace()
                self.start = self._place
            elif letter == '"':
                self._quoted = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                self._end = self._place if self._depth == 0 else None
        return self._end


def _certain(text: str, tag: str) -> int:
    """Length of the text without whitespace at its end and without what may be the start of a tag."""
    for length in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:length]):
            return len(text[: len(text) - length].rstrip())
    return len(text.rstrip())


def _past_close(after: str, close: str, ended: bool) -> int | None:
    """Length of what closes a call, whose object is complete; -1 if something else follows, None if more is needed."""
    if close:
        space = len(after) - len(after.lstrip())
        rest = after[space:]
        if rest.startswith(close):
            return space + len(close)
        if close.startswith(rest):
            return len(after) if ended else None
        return -1
    line, newline, _ = after.partition("\n")
    if line.strip():
        return -1
    return len(line) if newline or ended else None
