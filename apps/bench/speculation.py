"""Decoding with guessed tokens compared with plain decoding, one row, the same weights, in one process.

One response repeats its prompt (a text, and its start once more, continued greedily), another does not (a text,
continued at temperature 1). The sides take turns; medians of decoding speed after the first token are compared.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.engine import DraftModel, Engine, Given, Program, PromptLookup, Request, Sample, Sampling, Speculation


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """A prompt and how it is continued."""

    name: str
    prompt: tuple[int, ...]
    sampling: Sampling


@dataclass(frozen=True, kw_only=True)
class GuessedSpeed:
    """One text with one kind of guesses."""

    text: str
    guesses: str
    plain: float
    """Tokens per second of plain decoding."""
    guessed: float
    """Tokens per second with guesses."""
    right: float | None
    """Share of the guessed tokens that were right; None without a guess."""
    same: bool
    """Whether both sides wrote the same tokens."""

    @property
    def ratio(self) -> float:
        return self.guessed / self.plain


def continuations(text: Sequence[int], length: int, bos: Sequence[int]) -> list[Continuation]:
    """Prompts of at most `length` tokens: the start of a text and a quarter of it again, and the start alone."""
    part = list(text[: (length - len(bos)) * 4 // 5])
    again = tuple([*bos, *part, *part[: len(part) // 4]])
    return [
        Continuation(name="repeats its prompt", prompt=again, sampling=Sampling(temperature=0.0)),
        Continuation(name="new text", prompt=tuple([*bos, *part]), sampling=Sampling(temperature=1.0)),
    ]


def compare_guesses(
    model: Any, draft: Any, texts: Sequence[Continuation], tokens: int, repeats: int, context: int
) -> list[GuessedSpeed]:
    """Measure prompt lookup, and the draft model if there is one, on every text."""
    guessers: dict[str, Any] = {"prompt lookup": PromptLookup()}
    if draft is not None:
        guessers["draft model"] = DraftModel(draft)
    found = []
    for text in texts:
        for guesses, guesser in guessers.items():
            plain = Engine(model, slots=1, context=context)
            speculation = Speculation(guesser)
            guessing = Engine(model, slots=1, context=context, speculation=speculation)
            written: list[tuple[int, ...]] = []
            speeds: dict[str, list[float]] = {"plain": [], "guessed": []}
            for repeat in range(repeats + 1):  # the first round warms up
                for side, engine in (("plain", plain), ("guessed", guessing)):
                    response, speed = _timed(engine, text, tokens)
                    written.append(response)
                    if repeat:
                        speeds[side].append(speed)
            found.append(
                GuessedSpeed(
                    text=text.name,
                    guesses=guesses,
                    plain=statistics.median(speeds["plain"]),
                    guessed=statistics.median(speeds["guessed"]),
                    right=speculation.kept / speculation.guessed if speculation.guessed else None,
                    same=len(set(written)) == 1,
                )
            )
    return found


def _timed(engine: Engine, text: Continuation, tokens: int) -> tuple[tuple[int, ...], float]:
    """The tokens written after a prompt, and tokens per second after the first."""
    times: list[float] = []

    def program() -> Program:
        yield Given(text.prompt)
        return (yield Sample(limit=tokens, stop=frozenset(), sampling=text.sampling))

    [done] = engine.run([Request(program=program(), on_token=lambda token: times.append(time.perf_counter()))])
    return done.result.tokens, (len(times) - 1) / (times[-1] - times[0])
