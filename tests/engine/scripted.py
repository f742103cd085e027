"""Fake models with the usual calling convention (`model(tokens, cache=…)`) whose text can be computed by hand."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import mlx.core as mx

from mlx_suite.engine import Engine, Given, Program, Queries, Query, Request, Sample

STOP = 0
"""Stop token that ends every script."""


class ScriptedModel:
    """A model that predicts `script[t]` after token t: one token, or probabilities by token; STOP without an entry.

    Its keys are the token ids, so the KV cache of a slot can be read as text.
    """

    def __init__(
        self,
        script: Mapping[int, int | Mapping[int, float]],
        *,
        vocab_size: int = 64,
        windows: Sequence[int | None] = (None,),
    ) -> None:
        self.config = SimpleNamespace(windows=tuple(windows), vocab_size=vocab_size)
        rows = [[-30.0] * vocab_size for _ in range(vocab_size)]
        for token in range(vocab_size):
            line = script.get(token, STOP)
            for following, probability in ({line: 1.0} if isinstance(line, int) else line).items():
                rows[token][following] = math.log(probability)
        self.table = mx.array(rows)
        self.traces = 0
        """Python calls of the model; with a compiled step, one per prefill chunk and compilation."""

    def __call__(self, tokens: mx.array, cache: Sequence[Any]) -> mx.array:
        self.traces += 1
        keys = tokens.astype(mx.float32)[:, None, :, None]  # (B, 1, L, 1)
        for layer in cache:
            layer.update_and_fetch(keys, keys)
        return self.table[tokens]  # (B, L, V)


def fed(engine: Engine, slot: int, length: int, layer: int = 0) -> list[int]:
    """The first tokens in a slot's KV cache, read from its keys. Not for ring buffers that have wrapped."""
    keys: Any = engine.caches[layer].state[0][slot, 0, :length, 0].tolist()
    return [round(key) for key in keys]


class HistoryModel:
    """A model whose next token is a checksum of all visible keys: a missing, extra or misplaced key changes it.

    Each layer sums a number made of token and position over the keys it sees. `windows` are the caches' sliding
    windows; `masked` are windows that layers apply to full caches, as some of mlx-lm's models do.
    """

    def __init__(self, windows: Sequence[int | None], masked: Sequence[int | None], vocab_size: int = 23) -> None:
        self.config = SimpleNamespace(windows=tuple(windows), vocab_size=vocab_size)
        self.windows = [window or mask for window, mask in zip(windows, masked, strict=True)]
        self.size = vocab_size

    def __call__(self, tokens: mx.array, cache: Sequence[Any]) -> mx.array:
        length = tokens.shape[1]
        offset = cache[0].offset
        start = offset[:, None] if isinstance(offset, mx.array) else offset
        numbers = self.number(tokens.astype(mx.int32), start + mx.arange(length)[None])  # (B, L)
        numbers = mx.broadcast_to(numbers, tokens.shape).astype(mx.float32)[:, None, :, None]
        total = mx.zeros(tokens.shape)
        for weight, (layer, window) in enumerate(zip(cache, self.windows, strict=True), start=1):
            mask = layer.make_mask(length, return_array=False, window_size=window)
            keys, values = layer.update_and_fetch(numbers, 2 * numbers)  # (B, 1, S, 1)
            seen = keys.shape[2]
            if mask is None:
                mask = mx.ones((length, seen), mx.bool_)
            elif isinstance(mask, str):
                mask = mx.arange(seen)[None] <= mx.arange(seen - length, seen)[:, None]
            sums = mx.where(mask, (keys + values).swapaxes(2, 3), 0.0).sum(axis=-1)[:, 0]  # (B, L)
            total = total + weight * sums
        target = total.astype(mx.int32) % self.size
        return 4.0 * (mx.arange(self.size) == target[..., None])  # (B, L, V)

    def number(self, token: Any, position: Any) -> Any:
        return (token * 7 + position * 13 + token * position) % 31

    def after(self, text: Sequence[int]) -> int:
        """The next token, computed in Python."""
        last = len(text) - 1
        total = 0
        for weight, window in enumerate(self.windows, start=1):
            first = 0 if window is None else max(0, last - window + 1)
            total += weight * sum(3 * self.number(text[p], p) for p in range(first, last + 1))
        return total % self.size

    def log_prob(self, text: Sequence[int], label: Sequence[int]) -> float:
        """log p(label | text) in nats."""
        total = 0.0
        for i, token in enumerate(label):
            right = token == self.after([*text, *label[:i]])
            total += (4.0 if right else 0.0) - math.log(math.exp(4.0) + self.size - 1)
        return total


@dataclass(frozen=True)
class Choose:
    """A query whose most probable label is then appended to the sequence."""

    labels: tuple[tuple[int, ...], ...]

    def program(self) -> Program:
        [reply] = yield Queries((Query(tokens=(), labels=self.labels),))
        yield Given(self.labels[reply.index])
        return reply


CHAIN = {token: token + 1 for token in range(10, 20)} | {20: STOP}
"""10 is followed by 11, and so on; 20 by STOP."""
UNTIL_STOP = Sample(limit=50, stop=frozenset({STOP}))


def upto(limit: int) -> Sample:
    return Sample(limit=limit, stop=frozenset({STOP}))


def segment_program(segment: Any) -> Program:
    return (yield segment)


def outcomes(*segments: Any) -> Program:
    """Run the segments and return their results, without those of `Given`."""
    results = []
    for segment in segments:
        result = yield from segment.program() if isinstance(segment, Choose) else segment_program(segment)
        if not isinstance(segment, Given):
            results.append(result)
    return results


def run(engine: Engine, *programs: Program) -> list[Any]:
    """Run the programs and return their results, in order."""
    done = {each.request.seed: each.result for each in engine.run(requests_for(programs))}
    return [done[i] for i in range(len(programs))]


def requests_for(programs: Sequence[Program]) -> Iterator[Request]:
    return (Request(program=program, seed=i) for i, program in enumerate(programs))
