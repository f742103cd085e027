"""Small models with adapters whose matrices are all random, so that omitting any of them is noticed."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.adapters.attach import AdapterConfig, save_adapter
from mlx_suite.adapters.lora import adapted_layers, add_adapters
from mlx_suite.checkpoints.save import save_model
from tests.modeling.tiny import tiny_model

ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ADAPTERS: dict[str, AdapterConfig] = {
    "LoRA": AdapterConfig(rank=4, alpha=8.0),
    "rsLoRA": AdapterConfig(rank=4, alpha=8.0, rslora=True),
    "DoRA": AdapterConfig(rank=4, alpha=8.0, method="dora"),
    "embedding and head": AdapterConfig(rank=4, alpha=8.0, modules=("q_proj", "embed_tokens", "lm_head")),
    "the last block": AdapterConfig(rank=4, alpha=8.0, layers=(2,)),
    "some blocks": AdapterConfig(rank=4, alpha=8.0, layers=(0, 2), modules=("v_proj", "down_proj")),
    "some blocks and the embedding": AdapterConfig(rank=4, alpha=8.0, layers=(1,), modules=("v_proj", "embed_tokens")),
}
"""One adapter of each kind; the models have three blocks."""


def shake(model: nn.Module, size: float = 0.2) -> None:
    """Fill every array of every adapter with random numbers."""
    mx.random.seed(1)
    for layer in adapted_layers(model).values():
        layer.lora_a = mx.random.normal(layer.lora_a.shape) * size
        layer.lora_b = mx.random.normal(layer.lora_b.shape) * size
        if "m" in layer:
            layer.m = layer.m * mx.random.uniform(0.7, 1.3, layer.m.shape)


def adapted_model(family: str, config: AdapterConfig, folder: Path, **changes: Any) -> nn.Module:
    """A model with adapters; `folder`/base has the base model, `folder`/adapter the adapters."""
    model = tiny_model(family, **changes)
    save_model(folder / "base", model)
    add_adapters(model, config)
    shake(model)
    save_adapter(folder / "adapter", model, config, base="base")
    return model
