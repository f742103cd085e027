"""Adapters merged into the weights they stand beside, so that any program can use the model.

    LoRA, linear     W + scale · (AB)ᵀ            LoRA, embedding     E + scale · AB
    DoRA             m · (W + scale · (AB)ᵀ) / ‖W + scale · (AB)ᵀ‖

The sums are made in fp32 and rounded once. Narrow formats lose a small adapter: bfloat16 keeps 8 bits of a number, a
4-bit layer 16 levels a group, and a merged model can come out as the base it began with (mlx-lm#1172). So what comes
out is compared with what went in.

Shapes: N inputs, O outputs, r rank, V vocabulary.
"""

from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from mlx_suite.adapters.attach import apply_adapter, load_adapter, template_beside
from mlx_suite.adapters.lora import adapted_layers, base_layer
from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.checkpoints.load import load_model, stored_dtype
from mlx_suite.checkpoints.quantization import LayerQuantization, quantized_layers
from mlx_suite.checkpoints.save import refuse_other_folder, save_model
from mlx_suite.checkpoints.weights import as_dtype, cast, named_parameters
from mlx_suite.export.probe import Distance, distance, logits_of, vocabulary_of
from mlx_suite.modeling.dora import DoRALinear, dense_weight
from mlx_suite.runtime.errors import UserError

MOST_LOST = 0.9
"""Of the adapter's mean effect on the logits: 1 is what a model has lost that came out as the base."""
WORTH_A_WORD = 0.25
"""Of the same. Rounding each weight of a bfloat16 model moves its logits too, by a fixed amount that a faint adapter
does not reach."""


@dataclass(frozen=True, kw_only=True)
class Fused:
    """What was merged, and how well."""

    layers: int
    dtype: str
    """Of the dense weights that were written."""
    packed: int
    """Layers that are quantized in the result."""
    effect: Distance
    """The adapter's: the base beside the base with its adapter."""
    error: Distance
    """The merge's: the base with its adapter beside the merged model."""

    @property
    def lost(self) -> float:
        """The merge's mean error as a share of the adapter's mean effect."""
        return self.error.mean / self.effect.mean if self.effect.mean else 0.0


def fuse_checkpoint(
    model_folder: Path,
    adapter_folder: Path,
    out: Path,
    *,
    dequantize: bool = False,
    dtype: str | None = None,
) -> Fused:
    """Merge an adapter into a checkpoint and write what comes out to `out`, with the tokenizer.

    Args:
        dequantize: Make packed layers dense first. Otherwise each is packed again as it was, which rounds once more.
        dtype: Of the dense weights that are written. None keeps the base's.

    Raises UserError when the adapter does not fit, when the merged model has lost most of it, and for the disk. `out`
    is then as it was.
    """
    refuse_other_folder(out)
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
    # As it will be read: rounded to what the file holds.
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
    template = template_beside(adapter_folder)
    save_model(out, model, config, dtype=target, tokenizer_from=model_folder, chat_template=template)
    return fused


def fuse(model: nn.Module) -> int:
    """Merge every adapter of `model` into the weight beneath it, in that weight's own format; how many there were.

    Dense weights keep their dtype; packed ones are expanded, merged and packed again as they were.
    """
    layers = adapted_layers(model)
    for path, layer in layers.items():
        merged = merged_layer(layer)
        mx.eval(merged.parameters())  # one layer at a time has an fp32 copy
        model.update_modules(tree_unflatten([(path, merged)]))
    return len(layers)


def merged_layer(layer: nn.Module) -> nn.Module:
    """The layer beneath an adapter, with the adapter in its weight."""
    base = base_layer(layer)
    if base.weight.ndim > 2:  # experts: mlx-lm's own
        experts: nn.Module = layer.fuse()
        return experts
    weight = merged_weight(layer)
    if "scales" in base:
        _pack(base, weight)
    else:
        base.weight = weight.astype(base.weight.dtype)
    return base


def merged_weight(layer: nn.Module) -> mx.array:
    """The weight that does what the layer and its adapter do together, fp32: (O, N), of an embedding (V, d)."""
    if isinstance(layer, DoRALinear):
        return layer.fused()
    product = layer.scale * (layer.lora_a @ layer.lora_b)
    weight = dense_weight(base_layer(layer))
    merged: mx.array = weight + (product if "embedding" in layer else product.T).astype(mx.float32)
    return merged


def _pack(base: nn.Module, weight: mx.array) -> None:
    """Put a dense weight into a quantized layer, packed as the layer is."""
    settings = LayerQuantization(group_size=base.group_size, bits=base.bits, mode=base.mode)
    dtype = base.scales.dtype
    source = weight.astype(dtype) if mx.issubdtype(dtype, mx.floating) else weight
    packed, scales, *biases = mx.quantize(
        source, group_size=settings.group_size, bits=settings.bits, mode=settings.mode
    )
    base.weight, base.scales = packed, scales
    if biases:
        base.biases = biases[0]


def _refuse_lost(fused: Fused, adapter: Path) -> None:
    if not fused.lost <= MOST_LOST:  # a NaN fails too
        fixes = "--dequantize keeps it" if fused.packed else "--dtype float32 keeps it"
        raise UserError(
            f"Rounding would lose {fused.lost:.0%} of what the adapter does: "
            + ("the layers are packed" if fused.packed else f"the weights are {fused.dtype}"),
            details=[
                f"mean change of the logits by the adapter: {fused.effect.mean:.3g}",
                f"mean difference of the merged model from it: {fused.error.mean:.3g}",
            ],
            where=str(adapter),
            fix=f"{fixes}; or keep the adapter beside the model",
        )
