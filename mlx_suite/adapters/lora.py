"""LoRA: a trained low-rank product added to a frozen weight (arXiv 2106.09685).

Uses mlx-lm's layers (`mlx_lm.tuner.lora`) and their array names; the DoRA layer is in `modeling.dora`. On a quantized
base this is QLoRA (arXiv 2305.14314), see `quantization.quantize_base`.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from mlx_suite.adapters.config import DEFAULT_MODULES, LEAVES, AdapterConfig, check_config
from mlx_suite.checkpoints.quantization import quantized_layers
from mlx_suite.modeling.dora import DoRALinear, dtype_of
from mlx_suite.runtime.errors import UserError

__all__ = ["ALL_LINEAR", "DEFAULT_MODULES", "AdapterReport", "adapted_layers", "add_adapters", "unfreeze_all"]

ALL_LINEAR = "all-linear"
"""Module name that selects every linear layer of the blocks."""

_LINEAR = (nn.Linear, nn.QuantizedLinear)
_EMBEDDING = (nn.Embedding, nn.QuantizedEmbedding)


@dataclass(frozen=True, kw_only=True)
class AdapterReport:
    """Result of `add_adapters`."""

    targets: tuple[str, ...]
    """Paths of the adapted layers."""
    unmatched: tuple[str, ...]
    """Module names and block numbers (`layer 40`) that matched no layer."""
    parameters: int
    """Number of trained parameters."""


def add_adapters(model: nn.Module, config: AdapterConfig, *, seed: int = 0) -> AdapterReport:
    """Add adapters to the layers that `config` selects and freeze everything else.

    The model's output is unchanged: the second matrix of each pair is initialized to zero. The first depends only on
    `seed` and the layer's path.

    Raises UserError for invalid settings, for a model that already has adapters, and for DoRA on an embedding.
    """
    check_config(config)
    targets, unmatched = find_targets(model, config)
    attach(model, {path: config.rank for path in targets}, config)
    layers = adapted_layers(model)
    for path, layer in layers.items():
        _draw(layer, path, seed)
    parameters = sum(layer[leaf].size for layer in layers.values() for leaf in leaves(layer))
    return AdapterReport(targets=tuple(targets), unmatched=tuple(unmatched), parameters=parameters)


def find_targets(model: nn.Module, config: AdapterConfig) -> tuple[list[str], list[str]]:
    """Paths of the layers that a config selects, and the module names and block numbers that match none."""
    numbers = _block_numbers(model)
    targets, met, blocks = [], set(), set()
    for path, module in model.named_modules():
        block = numbers.get(id(module))
        if not can_be_adapted(module):
            continue
        wanted = [name for name in config.modules if _matches(name, path, module, block)]
        if not wanted or (block is not None and config.layers is not None and block not in config.layers):
            continue
        targets.append(path)
        met.update(wanted)
        blocks.add(block)
    unmatched = [name for name in config.modules if name not in met]
    unmatched += [f"layer {number}" for number in config.layers or () if number not in blocks]
    return targets, unmatched


def attach(model: nn.Module, ranks: Mapping[str, int], config: AdapterConfig) -> None:
    """Adapt the layers at the paths in `ranks`, each with its rank; the product of the new matrices is zero.

    Only the adapters are trainable afterwards. Raises UserError for a model that already has adapters, and for DoRA on
    an embedding.
    """
    if adapted_layers(model):
        raise UserError("The model already has adapters", fix="fuse them first, or load the model again")
    modules = dict(model.named_modules())
    embeddings = [path for path in ranks if isinstance(modules[path], _EMBEDDING)]
    if config.method == "dora" and embeddings:
        raise UserError(
            f"DoRA adapts linear layers, and {', '.join(embeddings)} is an embedding",
            where="modules",
            fix="omit it, or choose the method lora",
        )
    model.freeze()
    adapted = [(path, _adapted(modules[path], rank, config)) for path, rank in ranks.items()]
    for _, layer in adapted:
        layer.train(model.training)
    if adapted:
        model.update_modules(tree_unflatten(adapted))


def adapted_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers with adapters, by path."""
    return {path: module for path, module in model.named_modules() if "lora_a" in module}


def base_layer(layer: nn.Module) -> nn.Module:
    """The frozen layer inside an adapted layer."""
    found: nn.Module = layer["embedding"] if "embedding" in layer else layer["linear"]
    return found


def leaves(layer: nn.Module) -> list[str]:
    """Names of the trained arrays of an adapted layer."""
    return [leaf for leaf in LEAVES if leaf in layer]


def can_be_adapted(module: nn.Module) -> bool:
    """Whether this kind of layer can have an adapter; mlx-lm's mixtures of experts use `SwitchLinear`."""
    if isinstance(module, _LINEAR + _EMBEDDING) or hasattr(module, "to_lora"):
        return True
    return type(module).__name__ in ("SwitchLinear", "QuantizedSwitchLinear")


def layer_shapes(module: nn.Module, rank: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of an adapter of this rank on a layer."""
    shape: tuple[int, ...] = module.weight.shape  # (O, N); (V, d) for an embedding, (E, O, N) for experts
    *experts, rows, columns = shape
    if "scales" in module:
        columns = columns * 32 // module.bits
    if experts:
        return {"lora_a": (*experts, rank, columns), "lora_b": (*experts, rows, rank), "m": (*experts, rows)}
    if isinstance(module, _EMBEDDING):
        return {"lora_a": (rows, rank), "lora_b": (rank, columns), "m": (rows,)}
    return {"lora_a": (columns, rank), "lora_b": (rank, rows), "m": (rows,)}


def unfreeze_all(model: nn.Module) -> None:
    """Make all parameters trainable, embeddings, norms and head included.

    Raises UserError for a model with quantized layers, whose weights have no gradient.
    """
    packed = quantized_layers(model)
    if packed:
        raise UserError(
            f"A quantized model cannot be fully finetuned: {len(packed)} of its layers are quantized",
            where="method full",
            fix="train an adapter (method lora), or use the model before quantization",
        )
    model.unfreeze()


def _block_numbers(model: nn.Module) -> dict[int, int]:
    """The block number of each module inside a block, by `id(module)`."""
    blocks: Iterable[Any] = getattr(model, "layers", ())
    return {id(module): number for number, block in enumerate(blocks) for _, module in block.named_modules()}


def _matches(name: str, path: str, module: nn.Module, block: int | None) -> bool:
    if name == ALL_LINEAR:
        return block is not None and not isinstance(module, _EMBEDDING)
    return path == name or path.endswith(f".{name}")


def _adapted(module: nn.Module, rank: int, config: AdapterConfig) -> nn.Module:
    if config.method == "dora":
        if not isinstance(module, _LINEAR):
            raise UserError(
                f"DoRA adapts linear layers, not {type(module).__name__}",
                where="modules",
                fix="omit it, or choose the method lora",
            )
        return DoRALinear(module, rank, config.dropout, config.scale)
    # mlx-lm takes two seconds to import.
    from mlx_lm.tuner.lora import LoRAEmbedding, LoRALinear, LoRASwitchLinear

    settings: dict[str, Any] = {"r": rank, "dropout": config.dropout, "scale": config.scale}
    adapted: nn.Module
    if isinstance(module, _LINEAR):
        adapted = LoRALinear.from_base(module, **settings)
    elif isinstance(module, _EMBEDDING):
        adapted = LoRAEmbedding.from_base(module, **settings)
    elif hasattr(module, "to_lora"):
        adapted = module.to_lora(**settings)
    else:
        adapted = LoRASwitchLinear.from_base(module, **settings)
    return adapted


def _draw(layer: nn.Module, path: str, seed: int) -> None:
    """Initialize the first matrix with uniform values within ± 1/√inputs, as mlx-lm does."""
    first = layer.lora_a
    inputs = first.shape[0] if first.ndim == 2 else first.shape[-1]  # (E, r, inputs) for experts
    digest = hashlib.sha256(f"{seed} {path}".encode()).digest()
    key = mx.random.key(int.from_bytes(digest[:8], "little"))
    drawn = mx.random.uniform(-1 / sqrt(inputs), 1 / sqrt(inputs), first.shape, key=key)
    # fp32 matrices would make all products with a 16-bit weight, and the saved activations, fp32 too.
    precision = dtype_of(base_layer(layer))
    layer.lora_a, layer.lora_b = drawn.astype(precision), layer.lora_b.astype(precision)
