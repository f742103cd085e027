"""Speed of models on this device, also as a share of its measured bandwidth and matrix-product speed."""

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

from mlx_suite.adapters.config import AdapterConfig
from mlx_suite.adapters.lora import add_adapters
from mlx_suite.data.batch.batches import Batch
from mlx_suite.modeling.attention import Attention
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.modeling.rope import Rope
from mlx_suite.runtime.footprint import bytes_read_per_token, cache_bytes, weight_bytes
from mlx_suite.training.documents import DocumentMask
from mlx_suite.training.train_step import TrainStep

from .device_shapes import Config, Peaks
from .throughput import our_side, time_once


@dataclass(frozen=True, kw_only=True)
class GenerationSpeed:
    """Generation speed of one model at one number of rows."""

    model: str
    weights: str
    rows: int
    prompt_tokens: int
    tokens: int
    prefill: float
    """Prompt tokens per second over all rows."""
    prefill_share: float
    """Prefill FLOP/s as a share of the measured peak of matrix products."""
    decode: float
    """Generated tokens per second over all rows."""
    decode_share: float
    """Share of the measured bandwidth: bytes of weights and KV cache that a decode step reads, over its time."""
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class StepSpeed:
    """Training speed of one model."""

    model: str
    method: str
    tokens: int
    """Positions per step, all in one row."""
    seconds: float
    tokens_per_second: float
    share: float
    """Share of the measured peak of matrix products; counts the forward pass and gradients of activations."""
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class PackedAttention:
    """Attention of one layer, forward and backward, on packed documents and on each document separately."""

    tokens: int
    documents: int
    packed_ms: float
    alone_ms: float
    causal_ms: float
    """Time of one document as long as the row."""
    packed_peak_bytes: int
    largest_difference: float
    """Largest difference between packed and separate outputs, relative to the largest output."""


def precision_bits(config: Config, bits: int | None) -> float:
    """Bits per weight in memory, including the scale and bias of each group of 64 quantized weights."""
    return 16.0 if bits is None else bits + 0.5


def model_bytes(config: Config, bits: int | None) -> int:
    """Size of the weights, in bytes."""
    return weight_bytes(config, precision_bits(config, bits))


def generation_seconds(config: Config, bits: int | None, rows: int, prompt: int, tokens: int, peaks: Peaks) -> float:
    """Conservative estimate of the time of `measure_generation`."""
    prefill = _prefill_flops(config, rows, prompt) / (0.4e9 * peaks.compute)
    return prefill + tokens * _step_bytes(config, bits, rows, prompt) / (0.4e9 * peaks.bandwidth)


def measure_generation(
    name: str, model: nn.Module, config: Config, bits: int | None, rows: int, prompt: int, tokens: int, peaks: Peaks
) -> GenerationSpeed:
    """Time greedy generation by the engine, after a short untimed round that compiles."""
    rng = random.Random(0)

    def prompts(length: int) -> list[list[int]]:
        return [[rng.randrange(config["vocab_size"]) for _ in range(length)] for _ in range(rows)]

    generate = our_side(model)
    time_once(generate, prompts(prompt), 2)
    speed = time_once(generate, prompts(prompt), tokens)
    seconds = rows * tokens / speed.tokens_per_second
    decode = rows * (tokens - 1) / (seconds - speed.first_token)
    prefill = rows * prompt / speed.first_token
    step_bytes = _step_bytes(config, bits, rows, prompt + tokens // 2)
    return GenerationSpeed(
        model=name,
        weights="bf16" if bits is None else f"{bits}-bit",
        rows=rows,
        prompt_tokens=prompt,
        tokens=tokens,
        prefill=prefill,
        prefill_share=_prefill_flops(config, rows, prompt) / speed.first_token / (1e9 * peaks.compute),
        decode=decode,
        decode_share=step_bytes * decode / rows / (1e9 * peaks.bandwidth),
        peak_bytes=speed.peak_bytes,
    )


def training_seconds(config: Config, tokens: int, peaks: Peaks) -> float:
    """Conservative estimate of the time of `measure_training`: a step that compiles and two timed ones."""
    return 3 * _training_flops(config, tokens) / (0.2e9 * peaks.compute)


def measure_training(name: str, model: nn.Module, config: Config, method: str, tokens: int, peaks: Peaks) -> StepSpeed:
    """Time LoRA steps (QLoRA if the model is quantized) on one row of two packed documents, all tokens trained."""
    add_adapters(model, AdapterConfig(rank=8, dropout=0.0))
    train_step = TrainStep(model, optim.AdamW(1e-4), clip=1.0)
    batch = _batch(config, tokens)
    seconds = []
    mx.clear_cache()
    mx.reset_peak_memory()
    for number in range(3):
        started = time.perf_counter()
        train_step.run([batch], batch.total, seed=number)
        seconds.append(time.perf_counter() - started)
    taken = statistics.mean(seconds[1:])
    return StepSpeed(
        model=name,
        method=method,
        tokens=tokens,
        seconds=taken,
        tokens_per_second=batch.trained / taken,
        share=_training_flops(config, tokens) / taken / (1e9 * peaks.compute),
        peak_bytes=mx.get_peak_memory(),
    )


def measure_packed_attention(config: Config, tokens: int, documents: int) -> PackedAttention:
    """Time one attention layer with random weights in bf16."""
    shape = ModelConfig.from_dict(config)
    layer = Attention(shape, None, Rope(shape.rope, shape.head_dim))
    layer.set_dtype(mx.bfloat16)
    each = tokens // documents
    x = mx.random.normal((1, tokens, shape.hidden_size), key=mx.random.key(0)).astype(mx.bfloat16)
    cache = DocumentMask(mx.repeat(mx.arange(1, documents + 1), each)[None], longest=each)
    mask = cache.row_mask(None)

    def packed(x: mx.array) -> mx.array:
        return layer(x, mask, cache)

    def causal(x: mx.array) -> mx.array:
        return layer(x, "causal", None)

    together = packed(x)
    apart = causal(x.reshape(documents, each, -1)).reshape(1, tokens, -1)
    difference: Any = (mx.abs(together - apart).max() / mx.abs(apart).max()).item()
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    packed_ms = _milliseconds(packed, x)
    peak = mx.get_peak_memory() - before
    return PackedAttention(
        tokens=tokens,
        documents=documents,
        packed_ms=packed_ms,
        alone_ms=_milliseconds(causal, x.reshape(documents, each, -1)),
        causal_ms=_milliseconds(causal, x),
        packed_peak_bytes=peak,
        largest_difference=difference,
    )


def _milliseconds(function: Callable[[mx.array], mx.array], x: mx.array) -> float:
    """Time of a forward and backward pass: the best of three, after one that compiles."""

    def loss(x: mx.array) -> mx.array:
        return function(x).astype(mx.float32).square().mean()

    step: Any = mx.compile(mx.grad(loss))
    mx.eval(step(x))
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        mx.eval(step(x))
        best = min(best, time.perf_counter() - started)
    return 1e3 * best


def _batch(config: Config, tokens: int) -> Batch:
    rng = np.random.default_rng(0)
    row = rng.integers(0, config["vocab_size"], (1, tokens)).astype(np.uint32)
    document = np.repeat(np.array([[1, 2]], np.uint16), tokens // 2, axis=1)
    index = np.flatnonzero(document[0, :-1] == document[0, 1:]).astype(np.int32)
    targets = row[0, index + 1].astype(np.int32)
    return Batch(tokens=row, document=document, index=index, targets=targets, weights=np.ones(len(index), np.float32))


def _matrix_flops(config: Config) -> float:
    """FLOPs per token in all layers, without the LM head: two per weight."""
    head = config["vocab_size"] * config["hidden_size"]
    return 2.0 * (bytes_read_per_token(config, 8.0) - head)


def _prefill_flops(config: Config, rows: int, prompt: int) -> float:
    """FLOPs of prefill, without the LM head, which sees only the last position. Half of the scores are masked."""
    attention = 2.0 * config["num_hidden_layers"] * config["num_attention_heads"] * config["head_dim"] * prompt**2
    return rows * (prompt * _matrix_flops(config) + attention)


def _training_flops(config: Config, tokens: int) -> float:
    """FLOPs of a training step: forward pass and gradients of activations, since frozen weights have none."""
    head = 2.0 * config["vocab_size"] * config["hidden_size"]
    return 2.0 * tokens * (_matrix_flops(config) + head)


def _step_bytes(config: Config, bits: int | None, rows: int, context: int) -> int:
    weights = bytes_read_per_token(config, precision_bits(config, bits))
    return weights + rows * cache_bytes(config, context, 2)
