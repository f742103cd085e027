"""Memory estimates compared with measured steps of random models, large enough that arrays dominate.

Measured is MLX's peak memory of a compiled step in this process, after clearing its cache.
"""

import gc
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_suite.adapters.lora import AdapterConfig, add_adapters, unfreeze_all
from mlx_suite.checkpoints.load import build_model
from mlx_suite.checkpoints.quantization import quantize_base
from mlx_suite.data.batch.batches import Batch
from mlx_suite.finetune.settings import CHOICES
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.training.anchor import AnchoredLoss
from mlx_suite.training.loop import TrainSettings, make_optimizer
from mlx_suite.training.recompute import recompute
from mlx_suite.training.step_memory import TrainShape, estimate_memory, trained_arrays
from mlx_suite.training.train_step import TrainStep
from tests.modeling.tiny import PUBLISHED

OFF = 0.2
"""Relative error that an estimate may have."""


def middling(family: str, **changes: Any) -> ModelConfig:
    """A model of four blocks whose activations of 1,024 positions take a few hundred megabytes."""
    shape = {"vocab_size": 2048, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4}
    shape |= {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32, "rms_norm_eps": 1e-5}
    window = {} if family == "llama" else {"sliding_window": 128}
    return ModelConfig.from_dict({"model_type": family, **shape, **window, **changes})


def on_the_cpu(**changes: Any) -> TrainShape:
    return TrainShape(**{"rows": 4, "row_length": 256, "trained_share": 0.5, "element_bytes": 4, **changes})


def random_batch(config: ModelConfig, shape: TrainShape) -> Batch:
    random = np.random.default_rng(0)
    form = (shape.rows, shape.row_length)
    document = np.ones(form, np.uint16)
    document[:, shape.row_length // 2 :] = 2
    return Batch(
        tokens=random.integers(0, config.vocab_size, form).astype(np.uint32),
        document=document,
        index=np.sort(random.permutation(shape.positions)[: shape.targets]).astype(np.int32),
        targets=random.integers(0, config.vocab_size, shape.targets).astype(np.int32),
        weights=np.ones(shape.targets, np.float32),
    )


def measured(config: ModelConfig, shape: TrainShape) -> int:
    """Measured peak memory in bytes of the second step."""
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    model = build_model(config)
    mx.eval(model.parameters())
    if shape.quantize_base:
        quantize_base(model, shape.quantize_base)
    if shape.method == "full":
        unfreeze_all(model)
    else:
        adapter = AdapterConfig(method=shape.method, rank=shape.rank, modules=shape.modules, layers=shape.layers)
        add_adapters(model, adapter)
    if shape.checkpointing:
        recompute(model.layers)
    train_step = TrainStep(model, make_optimizer(TrainSettings(steps=9, optimizer=shape.optimizer, warmup=0)), clip=1.0)
    if shape.averaged:
        train_step.keep_average(0.01)
    if shape.anchored:
        train_step.loss = AnchoredLoss(average=lambda: train_step.master["average"], beta=0.1)
    batches = [random_batch(config, shape)] * shape.accumulate
    for step in range(2):
        gc.collect()
        mx.clear_cache()
        mx.reset_peak_memory()
        train_step.run(batches, sum(batch.total for batch in batches), step)
    return mx.get_peak_memory() - before


def agree(config: ModelConfig, shape: TrainShape, off: float = OFF) -> None:
    estimate = estimate_memory(config, shape, limit=10**12)
    assert estimate.total == pytest.approx(measured(config, shape), rel=off), estimate


# ---- measured


@pytest.mark.slow
def test_lora_needs_the_estimated_memory() -> None:
    agree(middling("llama"), on_the_cpu())


@pytest.mark.slow
def test_recomputed_blocks_need_the_estimated_memory() -> None:
    agree(middling("gemma2"), on_the_cpu(method="full", checkpointing=True))


@pytest.mark.parametrize("averaged", [False, True])
def test_a_full_update_with_accumulation_needs_the_estimated_memory(averaged: bool) -> None:
    config = middling("llama", vocab_size=8192, hidden_size=512, num_hidden_layers=2)
    agree(config, on_the_cpu(method="full", rows=1, row_length=64, accumulate=2, averaged=averaged))


@pytest.mark.parametrize("anchored", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_large_vocabulary_needs_the_estimated_memory(anchored: bool) -> None:
    config = middling("llama", vocab_size=65536, hidden_size=128, num_hidden_layers=1, tie_word_embeddings=True)
    agree(config, on_the_cpu(row_length=64, averaged=anchored, anchored=anchored))


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["lora", "dora", "full"])
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gemma3_text", "qwen3"])
@pytest.mark.parametrize("change", [{}, {"intermediate_size": 1536}, {"hidden_size": 512}, {"num_hidden_layers": 8}])
def test_every_method_and_family_needs_the_estimated_memory(
    change: dict[str, int], family: str, method: str, checkpointing: bool
) -> None:
    # The worst case, DoRA in recomputed Llama blocks, is estimated a quarter too high.
    off = 0.27 if method == "dora" and checkpointing else OFF
    agree(middling(family, **change), on_the_cpu(method=method, checkpointing=checkpointing), off)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("form", [(1, 1024), (2, 512), (16, 64)])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_long_and_short_rows_need_the_estimated_memory(family: str, form: tuple[int, int], checkpointing: bool) -> None:
    rows, length = form
    agree(middling(family), on_the_cpu(rows=rows, row_length=length, checkpointing=checkpointing))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("optimizer", CHOICES["optimizer"])
def test_every_optimizer_needs_the_estimated_memory(optimizer: str, method: str) -> None:
    config = middling("llama", vocab_size=8192, hidden_size=512, intermediate_size=2048, tie_word_embeddings=True)
    agree(config, on_the_cpu(method=method, optimizer=optimizer, rank=256, rows=1, row_length=64))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_quantized_base_with_some_blocks_adapted_needs_the_estimated_memory(family: str) -> None:
    agree(middling(family), on_the_cpu(quantize_base=4, layers=(2, 3)))


# ---- counted


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma2", "gemma3_text", "qwen3"])
@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_trained_parameters_are_counted_correctly(family: str, method: str) -> None:
    config = middling(family, vocab_size=64, hidden_size=32, intermediate_size=64)
    model = build_model(config)
    shape = on_the_cpu(method=method, modules=("q_proj", "v_proj", "down_proj"), rank=4, layers=(1, 3))
    if method == "full":
        unfreeze_all(model)
    else:
        add_adapters(model, AdapterConfig(method=method, rank=4, modules=shape.modules, layers=shape.layers))
    from mlx.utils import tree_flatten

    expected = sum(array.size for _, array in tree_flatten(model.trainable_parameters()))
    assert sum(rows * columns for rows, columns in trained_arrays(config, shape)) == expected


def test_estimates_of_published_models_match_known_figures() -> None:
    llama = ModelConfig.from_dict(PUBLISHED["Llama 3.1 8B"])
    qlora = TrainShape(quantize_base=4, rows=4, row_length=2048, trained_share=0.6)
    estimate = estimate_memory(llama, qlora, limit=12 * 10**9)
    assert estimate.weights == pytest.approx(4.52e9, rel=0.01)
    assert estimate.parameters == 41_943_040
    assert not estimate.fits
    # Without packing, MLX's own attention keeps scores: 32 heads × 32 layers × 8,192 positions × 2,048 keys × 2 bytes.
    unpacked = estimate_memory(llama, replace(qlora, packed=False), limit=12 * 10**9)
    assert unpacked.activations - estimate.activations == pytest.approx(32 * 32 * 2048 * 8192 * 2, rel=0.05)
    again = estimate_memory(llama, replace(qlora, checkpointing=True), limit=12 * 10**9)
    assert again.total < estimate.total / 3
    # All logits of these positions would take 4.2 GB in fp32; the chunks take a tenth.
    gemma = ModelConfig.from_dict(PUBLISHED["Gemma 2 2B"])
    small = estimate_memory(gemma, TrainShape(rows=1, row_length=512, checkpointing=True), limit=10**10)
    assert small.fits and small.weights == pytest.approx(5.23e9, rel=0.01)
