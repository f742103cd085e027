"""Decoding with guessed tokens compared with plain decoding, one row, the same weights, in one process.

One prompt makes the model repeat it (a text, and its start once more), another does not (random tokens). The sides take
turns; medians of decoding speed after the first token are compared.
"""

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlx_suite.engine import DraftModel, Engine, Given, Program, PromptLookup, Request, Sample, Sampling, Speculation

GREEDY = Sampling(temperature=0.0)


@dataclass(frozen=True, kw_only=True)
class GuessedSpeed:
    """One kind of prompt with one kind of guesses."""

    prompt: str
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


def repeated(text: Sequence[int], length: int, bos: Sequence[int] = ()) -> list[int]:
    """A prompt of at most `length` tokens: the start of a text, then a quarter of it again."""
    part = list(text[: length * 4 // 5])
    return [*bos, *part, *part[: len(part) // 4]]


def new_text(vocabulary: int, length: int, seed: int = 0) -> list[int]:
    """A prompt of random tokens."""
    draw = random.Random(seed)
    return [draw.randrange(vocabulary) for _ in range(length)]


def compare_guesses(
    model: Any, draft: Any, prompts: dict[str, list[int]], tokens: int, repeats: int, context: int
) -> list[GuessedSpeed]:
    """Measure prompt lookup, and the draft model if there is one, on every prompt."""
    guessers: dict[str, Any] = {"prompt lookup": PromptLookup()}
    if draft is not None:
        guessers["draft model"] = DraftModel(draft)
    found = []
    for name, prompt in prompts.items():
        for guesses, guesser in guessers.items():
            plain = Engine(model, slots=1, context=context)
            speculation = Speculation(guesser)
            guessing = Engine(model, slots=1, context=context, speculation=speculation)
            written: list[tuple[int, ...]] = []
            speeds: dict[str, list[float]] = {"plain": [], "guessed": []}
            for repeat in range(repeats + 1):  # the first round warms up
                for side, engine in (("plain", plain), ("guessed", guessing)):
                    text, speed = _timed(engine, prompt, tokens)
                    written.append(text)
                    if repeat:
                        speeds[side].append(speed)
            found.append(
                GuessedSpeed(
                    prompt=name,
                    guesses=guesses,
                    plain=statistics.median(speeds["plain"]),
                    guessed=statistics.median(speeds["guessed"]),
                    right=speculation.kept / speculation.guessed if speculation.guessed else None,
                    same=len(set(written)) == 1,
                )
            )
    return found


def _timed(engine: Engine, prompt: list[int], tokens: int) -> tuple[tuple[int, ...], float]:
    """The tokens written after a prompt, and tokens per second after the first."""
    times: list[float] = []

    def program() -> Program:
        yield Given(tuple(prompt))
        return (yield Sample(limit=tokens, stop=frozenset(), sampling=GREEDY))

    [done] = engine.run([Request(program=program(), on_token=lambda token: times.append(time.perf_counter()))])
    return done.result.tokens, (len(times) - 1) / (times[-1] - times[0])
