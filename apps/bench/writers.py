"""mlx-lm's two ways to generate many texts: in batches, and one at a time as notebooks do it.

Both prefill every token of every prompt, since neither shares prefixes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

Write = Callable[[Sequence[Sequence[int]], Sequence[int], float], list["Text"]]
"""(prompts, token limits, temperature) → a text for each prompt, in order."""

ROWS = 32
"""Rows decoded at a time, mlx-lm's default."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """The completion of a prompt."""

    tokens: tuple[int, ...]
    """Token ids, without the stop token."""
    stop: int | None
    """The stop token; None if the text reached its limit."""


@dataclass(kw_only=True)
class BenchWriter:
    """One way to generate, with the number of tokens processed so far."""

    write: Write
    stops: frozenset[int]
    prefilled: int = 0
    decoded: int = 0
    """Tokens generated, stop tokens included."""

    def __call__(self, prompts: Sequence[Sequence[int]], limits: Sequence[int], temperature: float) -> list[Text]:
        found = self.write(prompts, limits, temperature)
        self.prefilled += sum(map(len, prompts))
        self.decoded += sum(len(text.tokens) + (text.stop is not None) for text in found)
        return found


def batched(model: Any, stops: frozenset[int], rows: int = ROWS) -> BenchWriter:
    """mlx-lm's `BatchGenerator` with `rows` texts in flight."""
    from mlx_lm.generate import BatchGenerator
    from mlx_lm.sample_utils import make_sampler

    def write(prompts: Sequence[Sequence[int]], limits: Sequence[int], temperature: float) -> list[Text]:
        batch = BatchGenerator(
            model,
            stop_tokens=[[stop] for stop in sorted(stops)],
            sampler=make_sampler(temp=temperature),
            completion_batch_size=rows,
        )
        uids = batch.insert([list(prompt) for prompt in prompts], list(limits))
        tokens: dict[int, list[int]] = {uid: [] for uid in uids}
        while responses := batch.next_generated():
            for response in responses:
                tokens[response.uid].append(int(response.token))
        batch.close()
        return [_text(tokens[uid], stops) for uid in uids]

    return BenchWriter(write=write, stops=stops)


def serial(model: Any, stops: frozenset[int]) -> BenchWriter:
    """mlx-lm's `generate_step`, one prompt at a time."""
    from mlx_lm.generate import generate_step
    from mlx_lm.sample_utils import make_sampler

    def write_one(prompt: Sequence[int], limit: int, temperature: float) -> Text:
        written: list[int] = []
        sampler = make_sampler(temp=temperature)
        for token, _ in generate_step(mx.array(list(prompt)), model, max_tokens=limit, sampler=sampler):
            written.append(int(token))
            if written[-1] in stops:
                break
        return _text(written, stops)

    def write(prompts: Sequence[Sequence[int]], limits: Sequence[int], temperature: float) -> list[Text]:
        return [write_one(prompt, limit, temperature) for prompt, limit in zip(prompts, limits, strict=True)]

    return BenchWriter(write=write, stops=stops)


def _text(tokens: Sequence[int], stops: frozenset[int]) -> Text:
    if tokens and tokens[-1] in stops:
        return Text(tokens=tuple(tokens[:-1]), stop=tokens[-1])
    return Text(tokens=tuple(tokens), stop=None)
