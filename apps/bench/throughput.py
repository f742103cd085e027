"""Generation speed and memory compared with mlx-lm's, with the same weights, in one process, and with torch's.

The sides alternate, so that a slower machine slows all of them; medians are compared. All decode greedily from the same
random prompts, without stop tokens.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import mlx.core as mx

from mlx_suite.engine import Engine, Given, Program, Request, Sample, Sampling


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Size of one generation benchmark."""

    batch: int
    prompt_tokens: int = 64
    tokens: int = 128
    """Tokens sampled per row."""
    repeats: int = 3


@dataclass(frozen=True, kw_only=True)
class SideSpeed:
    """Measurements of one side: medians over the repeats."""

    tokens_per_second: float
    """Tokens sampled over all rows per second, prefill included."""
    first_token: float
    """Seconds until every row has its first token."""
    peak_bytes: int
    """MLX's peak memory, weights included; of torch, the process's."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All sides on one workload."""

    workload: Workload
    ours: SideSpeed
    theirs: SideSpeed
    torch: SideSpeed | None = None
    """None where torch is not installed."""

    @property
    def ratio(self) -> float:
        """Our tokens per second over theirs."""
        return self.ours.tokens_per_second / self.theirs.tokens_per_second

    @property
    def torch_ratio(self) -> float | None:
        """Our tokens per second over torch's."""
        return self.ours.tokens_per_second / self.torch.tokens_per_second if self.torch else None


Timer = Callable[[list[list[int]], int], SideSpeed]
"""(prompts, tokens): time one run."""
Generate = Callable[[list[list[int]], int, Callable[[int], None]], None]
"""(prompts, tokens, on_token): sample `tokens` tokens after each prompt; `on_token(row)` is called at each."""


def our_side(model: Any) -> Generate:
    """Our engine with a slot per prompt, reused between rounds as a server would reuse it."""
    engines: dict[tuple[int, int], Engine] = {}

    def generate(prompts: list[list[int]], tokens: int, on_token: Callable[[int], None]) -> None:
        def program(prompt: list[int]) -> Program:
            yield Given(tuple(prompt))
            greedy = Sampling(temperature=0.0)
            yield Sample(limit=tokens, stop=frozenset(), sampling=greedy)

        slots, context = len(prompts), len(prompts[0]) + tokens
        engine = engines.setdefault((slots, context), Engine(model, slots=slots, context=context))
        requests = (
            Request(program=program(prompt), on_token=partial(_count, on_token, row))
            for row, prompt in enumerate(prompts)
        )
        for _ in engine.run(requests):
            pass

    return generate


def _count(on_token: Callable[[int], None], row: int, token: int) -> None:
    on_token(row)


def their_side(model: Any) -> Generate:
    """mlx-lm: `generate_step` for one row, `BatchGenerator` for more."""
    from mlx_lm.generate import BatchGenerator, generate_step

    def generate(prompts: list[list[int]], tokens: int, on_token: Callable[[int], None]) -> None:
        if len(prompts) == 1:
            for _ in generate_step(mx.array(prompts[0]), model, max_tokens=tokens):
                on_token(0)
            return
        batch = BatchGenerator(model, completion_batch_size=len(prompts))
        rows = {uid: row for row, uid in enumerate(batch.insert(prompts, [tokens] * len(prompts)))}
        while responses := batch.next_generated():
            for response in responses:
                on_token(rows[response.uid])
        batch.close()

    return generate


def time_once(generate: Generate, prompts: list[list[int]], tokens: int) -> SideSpeed:
    """Time one run."""
    waiting = set(range(len(prompts)))
    written = 0
    first = 0.0
    mx.clear_cache()
    mx.reset_peak_memory()
    start = time.perf_counter()

    def on_token(row: int) -> None:
        nonlocal written, first
        written += 1
        if waiting:
            waiting.discard(row)
            if not waiting:
                first = time.perf_counter() - start

    generate(prompts, tokens, on_token)
    seconds = time.perf_counter() - start
    assert written == tokens * len(prompts), f"{written} tokens sampled of {len(prompts)} x {tokens}"
    return SideSpeed(tokens_per_second=written / seconds, first_token=first, peak_bytes=mx.get_peak_memory())


def compare(ours: Any, theirs: Any, vocabulary: int, workload: Workload, torch: Timer | None = None) -> Comparison:
    """Time all sides on `workload` alternately, after one untimed round; `torch` times a run of torch."""
    rng = random.Random(0)
    sides: list[Timer] = [partial(time_once, side) for side in (their_side(theirs), our_side(ours))]
    sides += [torch] if torch else []
    speeds: list[list[SideSpeed]] = [[] for _ in sides]
    for _ in range(workload.repeats + 1):
        # New prompts each round, so that no prefix cache can help.
        prompts = [[rng.randrange(vocabulary) for _ in range(workload.prompt_tokens)] for _ in range(workload.batch)]
        for side, measured in zip(sides, speeds, strict=True):
            measured.append(side(prompts, workload.tokens))
    return Comparison(
        workload=workload,
        # Later, our caches and copies of weights are in MLX's memory as well.
        theirs=replace(_median(speeds[0][1:]), peak_bytes=speeds[0][0].peak_bytes),
        ours=_median(speeds[1][1:]),
        torch=_median(speeds[2][1:]) if torch else None,
    )


def cache_bytes(model: Any, tokens: int, vocabulary: int) -> int:
    """Bytes of one row's KV cache after `tokens` tokens, prefilled in chunks of 512 and one decode step."""
    make = getattr(model, "make_cache", None)
    if make is None:
        from mlx_lm.models.cache import make_prompt_cache

        caches = make_prompt_cache(model)
    else:
        caches = make()
    text = mx.array([[i % vocabulary for i in range(tokens)]])
    for start in range(0, tokens - 1, 512):
        model(text[:, start : min(start + 512, tokens - 1)], cache=caches)
        mx.eval([cache.state for cache in caches])
    model(text[:, -1:], cache=caches)
    mx.eval([cache.state for cache in caches])
    return sum(cache.nbytes for cache in caches)


def _median(speeds: Sequence[SideSpeed]) -> SideSpeed:
    return SideSpeed(
        tokens_per_second=statistics.median(s.tokens_per_second for s in speeds),
        first_token=statistics.median(s.first_token for s in speeds),
        peak_bytes=max(s.peak_bytes for s in speeds),
    )
