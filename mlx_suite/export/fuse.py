"""Fuse adapters into the base model's weights, so that any program can use the model.

    LoRA, linear     W + scale · (AB)ᵀ            LoRA, embedding     E + scale · AB
    DoRA             m · (W + scale · (AB)ᵀ) / ‖W + scale · (AB)ᵀ‖
    trained rows     E with these rows replaced

Sums are computed in fp32 and rounded once. Low precision can lose a small adapter: bfloat16 has 8 significant bits, a
4-bit layer 16 levels per group, and the fused model may equal its base (mlx-lm#1172). So the fused model's logits are
compared with the adapted model's.

Shapes: N inputs, O outputs, r rank, V vocabulary.
"""

from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from mlx_suite.adapters.attach import apply_adapter, load_adapter, stored_template
from mlx_suite.adapters.lora import adapted_layers, base_layer
from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.checkpoints.load import load_model, stored_dtype
from mlx_suite.checkpoints.quantization import quantized_layers
from mlx_suite.checkpoints.save import refuse_other_folder, save_model
from mlx_suite.checkpoints.weights import as_dtype, cast, named_parameters
from mlx_suite.export.probe import Distance, distance, logits_of, vocabulary_of
from mlx_suite.modeling.dora import DoRALinear, dense_weight
from mlx_suite.modeling.trained_rows import TrainedRows, layers_with_rows
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import load_tokenizer

MOST_LOST = 0.9
"""Largest fraction of the adapter's mean effect on the logits that may be lost; 1 for a model equal to its base."""
REPORTED_LOSS = 0.25
"""Fraction from which the loss is reported. Rounding the weights of a bfloat16 model changes the logits by a fixed
amount, which the effect of a weak adapter may not exceed."""


@dataclass(frozen=True, kw_only=True)
class Fused:
    """Result of fusing an adapter, with its error."""

    layers: int
    dtype: str
    """Dtype of the dense weights written."""
    packed: int
    """Number of quantized layers in the result."""
    effect: Distance
    """The adapter's effect: distance between base model and adapted model."""
    error: Distance
    """The error of fusing: distance between adapted model and fused model."""

    @property
    def lost(self) -> float:
        """Mean error as a fraction of the adapter's mean effect."""
        return self.error.mean / self.effect.mean if self.effect.mean else 0.0


def fuse_checkpoint(
    model_folder: Path,
    adapter_folder: Path,
    out: Path,
    *,
    dequantize: bool = False,
    dtype: str | None = None,
) -> Fused:
    """Fuse an adapter into a checkpoint and write the result to `out`, with the tokenizer.

    Args:
        dequantize: Dequantize quantized layers; otherwise they are quantized again with their settings.
        dtype: Dtype of the dense weights written; None keeps the base model's.

    Raises UserError if the adapter does not fit, if rounding loses most of it, and for disk errors; `out` is then
    unchanged.
    """
    refuse_other_folder(out)
    load_tokenizer(model_folder)  # it is copied, so its ids must have rows
    model = load_model(model_folder, dequantize=dequantize)
    adapter = load_adapter(adapter_folder)
    target = as_dtype(dtype) if dtype else stored_dtype(model_folder) or mx.float32
    config = read_config(model_folder)
    vocabulary = vocabulary_of(config)
    before = logits_of(model, vocabulary)
    apply_adapter(model, adapter, where=str(adapter_folder))
    model.eval()
    adapted = logits_of(model, vocabulary)
    layers = fuse(model)
    # Rounded to the dtype of the file, so that the comparison includes this error.
    model.update(tree_unflatten([(name, cast(array, target)) for name, array in named_parameters(model).items()]))
    after = logits_of(model, vocabulary)
    fused = Fused(
        layers=layers,
        dtype=str(target).rpartition(".")[2],
        packed=len(quantized_layers(model)),
        effect=distance(before, adapted),
        error=distance(adapted, after),
    )
    _refuse_lost(fused, adapter_folder)
    template = stored_template(adapter_folder)
    save_model(out, model, config, dtype=target, tokenizer_from=model_folder, chat_template=template)
    return fused


def fuse(model: nn.Module) -> int:
    """Fuse every adapter of `model` into its base weight; returns the number of adapters.

    Dense weights keep their dtype; quantized weights are expanded, fused, and quantized with the same settings.
    """
    layers = adapted_layers(model)
    for path, layer in layers.items():
        merged = merged_layer(layer)
        mx.eval(merged.parameters())  # so that only one layer at a time has an fp32 copy
        model.update_modules(tree_unflatten([(path, merged)]))
    with_rows = layers_with_rows(model)
    model.update_modules(tree_unflatten([(path, table_with_rows(layer)) for path, layer in with_rows.items()]))
    return len(layers) + len(with_rows)


def merged_layer(layer: nn.Module) -> nn.Module:
    """The base layer of an adapted layer, with the adapter fused into its weight."""
    base = base_layer(layer)
    if base.weight.ndim > 2:  # experts: mlx-lm's implementation
        experts: nn.Module = layer.fuse()
        return experts
    weight = merged_weight(layer)
    if "scales" in base:
        _pack(base, weight)
    else:
        base.weight = weight.astype(base.weight.dtype)
    return base


def table_with_rows(layer: TrainedRows) -> nn.Module:
    """The embedding or head of a layer, with its trained rows; other rows of a quantized table stay the same."""
    table, at = layer.table, mx.array(layer.token_ids)
    if "scales" not in table:
        table.weight[at] = layer.token_rows.astype(table.weight.dtype)
    else:
        for name, packed in zip(("weight", "scales", "biases"), _packed(table, layer.token_rows), strict=False):
            table[name][at] = packed
    return table


def merged_weight(layer: nn.Module) -> mx.array:
    """Weight of the layer with its adapter fused, in fp32: (O, N), or (V, d) for an embedding."""
    if isinstance(layer, DoRALinear):
        return layer.fused()
    product = layer.scale * (layer.lora_a @ layer.lora_b)
    weight = dense_weight(base_layer(layer))
    merged: mx.array = weight + (product if "embedding" in layer else product.T).astype(mx.float32)
    return merged


def _pack(base: nn.Module, weight: mx.array) -> None:
    """Quantize a dense weight into a quantized layer, with the layer's settings."""
    base.weight, base.scales, *biases = _packed(base, weight)
    if biases:
        base.biases = biases[0]


def _packed(base: nn.Module, weight: mx.array) -> list[mx.array]:
    """Dense rows in the format of a quantized layer: packed weight, scales and, for some formats, biases."""
    dtype = base.scales.dtype
    source = weight.astype(dtype) if mx.issubdtype(dtype, mx.floating) else weight.astype(mx.float32)
    return list(mx.quantize(source, group_size=base.group_size, bits=base.bits, mode=base.mode))


def _refuse_lost(fused: Fused, adapter: Path) -> None:
    if not fused.lost <= MOST_LOST:  # NaN is refused too
        fixes = "--dequantize keeps it" if fused.packed else "--dtype float32 keeps it"
        raise UserError(
            f"Rounding would lose {fused.lost:.0%} of the adapter's effect: "
            + ("the layers are quantized" if fused.packed else f"the weights are {fused.dtype}"),
            details=[
                f"mean change of the logits by the adapter: {fused.effect.mean:.3g}",
                f"mean difference between fused and adapted model: {fused.error.mean:.3g}",
            ],
            where=str(adapter),
            fix=f"{fixes}; or use the adapter without fusing it",
        )
