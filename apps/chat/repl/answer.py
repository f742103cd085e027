"""A response: its text, why it ended, and what it cost."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mlx_suite.serving.text_stream import TextStream
from mlx_suite.text import StreamingDetokenizer


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A generated response, and what it cost."""

    text: str
    reason: str
    """Why it ended: `stop`, `limit` (max_tokens), `context` (context full) or `stopped` (by `Session.stop`)."""
    prompt_tokens: int
    reused: int
    """Tokens of the prompt that were not prefilled, because the KV cache held them."""
    tokens: int
    """Sampled tokens, the stop token included."""
    first_token_seconds: float | None
    tokens_per_second: float | None
    """Speed after the first token."""
    seed: int | None
    """Random seed; None for a greedy response."""

    @property
    def prefilled(self) -> int:
        """Tokens of the prompt that were fed to the model."""
        return self.prompt_tokens - self.reused


@dataclass
class AnswerStream:
    """A response while it is generated: its text, and the time of its tokens."""

    detokenizer: StreamingDetokenizer
    stop: frozenset[int]
    """Tokens that end the response; they are not shown."""
    on_text: Callable[[str], None]
    stop_texts: tuple[str, ...] = ()
    """Texts that end the response; they are not shown either. With any, `until` must be the segment's."""
    pieces: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """Time of each token in seconds after the start."""
    began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self._cut = TextStream(
            choice=0,
            detokenizer=self.detokenizer,
            stop_texts=self.stop_texts,
            on_delta=lambda delta: self._show(delta.text),
        )

    @property
    def stop_text(self) -> str | None:
        """The stop text that ended the response."""
        return self._cut.stop_text

    def until(self, token: int) -> bool:
        """Show the text that a token completes; whether it completes a stop text."""
        return self._cut.add(token)

    def on_token(self, token: int) -> None:
        """Note a sampled token and show the text that it completes."""
        self.times.append(time.perf_counter() - self.began)
        if token not in self.stop and not self.stop_texts:
            self._show(self.detokenizer.add(token))

    def answer(self, reason: str, prompt_tokens: int, reused: int, seed: int | None) -> Answer:
        """Show what was held back, and return the response with its cost."""
        if self.stop_texts:
            self._cut.finish()
        else:
            self._show(self.detokenizer.finish())
        times = self.times
        seconds = times[-1] - times[0] if times else 0.0
        return Answer(
            text="".join(self.pieces),
            reason=reason,
            prompt_tokens=prompt_tokens,
            reused=reused,
            tokens=len(times),
            first_token_seconds=times[0] if times else None,
            tokens_per_second=(len(times) - 1) / seconds if seconds else None,
            seed=seed,
        )

    def _show(self, text: str) -> None:
        if text:
            self.pieces.append(text)
            self.on_text(text)
