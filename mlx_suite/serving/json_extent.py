"""Where a JSON object ends in a text that is still growing."""


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
