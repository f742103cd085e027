"""The text of one choice while it is generated: characters, stop texts, and the deltas that clients receive."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mlx_suite.engine import TokenScore
from mlx_suite.serving.generation import Delta, Token
from mlx_suite.text import StreamingDetokenizer


@dataclass(kw_only=True)
class TextStream:
    """Converts the tokens of a choice to deltas. No delta contains half a character or the start of a stop text."""

    choice: int
    detokenizer: StreamingDetokenizer
    stop_texts: tuple[str, ...]
    on_delta: Callable[[Delta], None]
    stop_text: str | None = None
    """The stop text that ended the choice."""
    count: int = 0
    """Tokens so far."""
    first: float = 0.0
    last: float = 0.0
    """Times of the first and the last token, on the clock of `time.monotonic`."""
    _held: str = ""
    """Text that may be the start of a stop text."""
    _tokens: list[Token] = field(default_factory=list)
    """Tokens since the last delta."""
    _score: TokenScore | None = None

    def on_score(self, score: TokenScore | None) -> None:
        """Note the score of the next token."""
        self._score = score

    def add(self, token: int) -> bool:
        """Add a token; returns whether its text completes a stop text."""
        self.count += 1
        self.last = time.monotonic()
        if self.count == 1:
            self.first = self.last
        self._tokens.append(Token(id=token, score=self._score))
        return self._show(self.detokenizer.add(token))

    @property
    def tokens_per_second(self) -> float | None:
        """Speed after the first token; None if there is only one."""
        return (self.count - 1) / (self.last - self.first) if self.last > self.first else None

    def finish(self) -> None:
        """Emit what was held back."""
        if self.stop_text is None and not self._show(self.detokenizer.finish()):
            self._emit(self._held)

    def _show(self, text: str) -> bool:
        text = self._held + text
        found = _earliest(text, self.stop_texts)
        if found is not None:
            place, self.stop_text = found
            self._held = ""
            self._emit(text[:place])
            return True
        final = len(text) - _partial(text, self.stop_texts)
        self._held = text[final:]
        self._emit(text[:final])
        return False

    def _emit(self, text: str) -> None:
        if text or self._tokens:
            self.on_delta(Delta(choice=self.choice, text=text, tokens=tuple(self._tokens)))
            self._tokens.clear()


def _earliest(text: str, stop_texts: Sequence[str]) -> tuple[int, str] | None:
    """Place and text of the first stop text; the longest of those at the same place."""
    places = [(text.find(each), -len(each), each) for each in stop_texts if each in text]
    if not places:
        return None
    place, _, found = min(places)
    return place, found


def _partial(text: str, stop_texts: Sequence[str]) -> int:
    """Length of the longest end of `text` that begins a stop text."""
    longest = max(map(len, stop_texts), default=1) - 1
    lengths = range(min(longest, len(text)), 0, -1)
    return next((length for length in lengths if any(each.startswith(text[-length:]) for each in stop_texts)), 0)
