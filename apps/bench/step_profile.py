"""Where the time of a decode step goes, by kind of operation, measured on our models.

Each kind is compiled alone, as often as a step computes it, and timed; what is left of the step's own time is waiting,
starting operations, and sampling.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlx_suite.engine import Sampling
from mlx_suite.engine.slots import slot_caches
from mlx_suite.engine.step import Feed, Stepper
from mlx_suite.modeling.attention import attend
from mlx_suite.modeling.blocked import blocks_in_use
from mlx_suite.modeling.joined import in_use

ROUNDS = 15
STEP_PARTS = ("products", "attention", "cache", "rope", "norms", "activation")


@dataclass(frozen=True, kw_only=True)
class StepProfile:
    """Milliseconds of a decode step: medians."""

    rows: int
    step: float
    """From the start of a step to its tokens, steps launched ahead as the engine does."""
    host: float
    """Processor time of the thread that launches steps: Python and MLX's dispatch. It overlaps with the computation."""
    python: float
    """The part of `host` outside MLX."""
    products: float
    attention: float
    cache: float
    """Writing the new keys and values."""
    rope: float
    norms: float
    activation: float

    @property
    def rest(self) -> float:
        """What the parts leave of the step."""
        return max(0.0, self.step - sum(getattr(self, part) for part in STEP_PARTS))


def profile_step(model: Any, rows: int, *, capacity: int = 128) -> StepProfile:
    """Profile a greedy decode step of one of our models with `capacity` positions in every slot."""
    config = model.config
    H, K, D, layers = config.num_attention_heads, config.num_key_value_heads, config.head_dim, model.layers
    stepper = _stepper(model, rows, capacity)
    step, host, python = _steps(stepper, rows, capacity)
    x = mx.random.normal((rows, 1, config.hidden_size))
    q, k, v = (mx.random.normal((rows, heads, length, D)) for heads, length in ((H, 1), (K, capacity), (K, capacity)))
    gate = mx.random.normal((rows, 1, config.intermediate_size))
    mask = mx.ones((rows, 1, 1, capacity), mx.bool_)
    offset = mx.full((rows,), capacity - 1, mx.int32)
    mx.eval(x, q, k, v, gate, mask, offset)
    joined, copies = stepper.joined, stepper.copies.ready

    def products(x: mx.array) -> mx.array:
        for layer in layers:
            q = layer.self_attn.outputs(x)[0]
            x = x + layer.self_attn.o_proj(q)
            x = x + layer.mlp.down_proj(layer.mlp.outputs(x)[0])
        return model.head(x)

    def joined_products(x: mx.array) -> mx.array:
        with in_use(joined), blocks_in_use(copies):
            return products(x)

    def attention(q: mx.array) -> mx.array:
        for _ in layers:
            q = attend(q, k, v, config.scale, config.attn_logit_softcapping, mask)
        return q

    def rope(q: mx.array, k: mx.array) -> list[mx.array]:
        for layer in layers:
            q, k = mx.split(layer.self_attn._rope(mx.concatenate([q, k], axis=1), offset, None), [H], axis=1)
        return [q, k]

    def norms(x: mx.array) -> mx.array:
        for _ in range(1 + sum("layernorm" in name for layer in layers for name in layer)):
            x = model.model.norm(x)
        return x

    def activation(gate: mx.array) -> mx.array:
        for layer in layers:
            gate = layer.mlp.gated(gate, gate)
        return gate

    return StepProfile(
        rows=rows,
        step=step,
        host=host,
        python=python,
        products=_timed(mx.compile(joined_products), x),
        attention=_timed(mx.compile(attention), q),
        cache=_writes(model, rows, capacity, k[:, :, :1], v[:, :, :1]),
        rope=_timed(mx.compile(rope), q, k[:, :, :1]),
        norms=_timed(mx.compile(norms), x),
        activation=_timed(mx.compile(activation), gate),
    )


def _stepper(model: Any, rows: int, capacity: int) -> Stepper:
    caches = slot_caches(model, rows)
    for cache in caches:
        cache.reserve(capacity)
    stepper = Stepper(model, caches)
    stepper.copies.make_all()
    sampled = None
    for position in range(4):  # the first step allocates, the second compiles
        sampled = stepper.step(_feeds(rows, position, first=sampled is None), sampled).tokens
    mx.eval(sampled)
    return stepper


def _feeds(rows: int, position: int, *, first: bool = False) -> list[Feed]:
    greedy = Sampling(temperature=0.0)
    token = 5 if first else None
    return [Feed(token=token, position=position, seed=0, sampling=greedy, first=False)] * rows


def _steps(stepper: Stepper, rows: int, capacity: int) -> tuple[float, float, float]:
    """Milliseconds of a step, of its host, and of Python alone."""
    steps, hosts, pythons = [], [], []
    previous = mx.full((rows,), 5, mx.uint32)
    mx.eval(previous)
    for position in range(4, min(capacity, 4 + 2 * ROUNDS)):
        start, host = time.perf_counter(), time.thread_time()
        stepper.inputs(_feeds(rows, position))  # what a step does in Python, once more, to time it alone
        pythons.append(time.thread_time() - host)
        start, host = time.perf_counter(), time.thread_time()
        sampled = stepper.step(_feeds(rows, position), previous).tokens
        previous.tolist()
        steps.append(time.perf_counter() - start)
        hosts.append(time.thread_time() - host)
        previous = sampled
    mx.eval(previous)
    return _milliseconds(steps), _milliseconds(hosts), _milliseconds(pythons)


def _writes(model: Any, rows: int, capacity: int, keys: mx.array, values: mx.array) -> float:
    """Milliseconds of writing one token to all caches, in place."""
    caches = slot_caches(model, rows)
    for cache in caches:
        cache.reserve(capacity)
        cache.allocate(keys, values)
        cache.offset = mx.full((rows,), 3, mx.int32)
    states = [cache.state for cache in caches]
    mx.eval(keys, values, states)

    def write(keys: mx.array, values: mx.array) -> mx.array:
        for cache in caches:
            cache.update_and_fetch(keys, values)
        return keys

    compiled = mx.compile(write, inputs=states, outputs=states)

    def run(keys: mx.array, values: mx.array) -> list[Any]:
        compiled(keys, values)
        return states

    return _timed(run, keys, values)


def _timed(work: Callable[..., Any], *inputs: mx.array) -> float:
    """Median milliseconds of a run, after one that compiles."""
    mx.eval(work(*inputs))
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        mx.eval(work(*inputs))
        seconds.append(time.perf_counter() - start)
    return _milliseconds(seconds)


def _milliseconds(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) * 1e3
