"""MLX's quantized layers: detect them in a checkpoint, dequantize them, describe them in `config.json`.

A quantized matrix (rows, columns) is stored as `weight`, 32-bit words of packed columns, `scales` with one entry per
group of columns and, in affine mode, `biases` of the same shape. The shapes determine bits and group size per layer.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.checkpoints.safetensors_header import TensorHeader

Shape = tuple[int, ...]

# Affine scales have the activations' dtype. Other modes have 8-bit scales and a single (bits, group size) each.
_AFFINE_BITS = (1, 2, 3, 4, 5, 6, 8)
_AFFINE_GROUPS = (32, 64, 128)
_OTHER_MODES = {(4, 32): "mxfp4", (8, 32): "mxfp8", (4, 16): "nvfp4"}

BASE_GROUPS = (64, 32)
"""Group sizes for a quantized base, in order of preference; the group size must divide a matrix's columns."""


@dataclass(frozen=True, kw_only=True)
class LayerQuantization:
    """Quantization settings of a matrix: the arguments of `mx.quantize`."""

    group_size: int
    bits: int
    mode: str = "affine"

    def shapes(self, path: str, dense: Shape) -> dict[str, Shape]:
        """Names and shapes of the tensors that replace `path`.weight (rows, columns)."""
        *rows, columns = dense
        shapes = {
            f"{path}.weight": (*rows, columns * self.bits // 32),
            f"{path}.scales": (*rows, columns // self.group_size),
        }
        if self.mode == "affine":
            shapes[f"{path}.biases"] = shapes[f"{path}.scales"]
        return shapes


def find_quantized(
    tensors: Mapping[str, TensorHeader], dense: Mapping[str, Shape]
) -> tuple[dict[str, LayerQuantization], list[str]]:
    """The quantized layers of a checkpoint by path, and one line per layer with unknown quantization.

    `dense` holds the unquantized shape of each parameter. A layer is quantized if the checkpoint has its scales.
    """
    layers: dict[str, LayerQuantization] = {}
    problems = []
    for name, scales in tensors.items():
        path, _, kind = name.rpartition(".")
        weight, shape = tensors.get(f"{path}.weight"), dense.get(f"{path}.weight")
        if kind != "scales" or weight is None or shape is None:
            continue  # `differences` reports missing weights and unknown paths
        settings = _packing(weight, scales, shape)
        if settings is None:
            problems.append(
                f"{path} is quantized in an unknown way: weight {weight.dtype} {weight.shape}, "
                f"scales {scales.dtype} {scales.shape} for a matrix {shape}"
            )
        else:
            layers[path] = settings
    return layers, problems


def _packing(weight: TensorHeader, scales: TensorHeader, shape: Shape) -> LayerQuantization | None:
    columns = shape[-1]
    if weight.dtype != "U32" or not weight.shape or not scales.shape or not scales.shape[-1]:
        return None
    group_size, no_group = divmod(columns, scales.shape[-1])
    bits, no_bits = divmod(weight.shape[-1] * 32, columns)
    if no_group or no_bits:
        return None
    mode = _OTHER_MODES.get((bits, group_size)) if scales.dtype == "U8" else "affine"
    if mode is None or (mode == "affine" and (bits not in _AFFINE_BITS or group_size not in _AFFINE_GROUPS)):
        return None
    return LayerQuantization(group_size=group_size, bits=bits, mode=mode)


def expand(arrays: dict[str, mx.array], path: str, settings: LayerQuantization, dtype: mx.Dtype) -> None:
    """Replace the tensors of a quantized layer with its dense weight in `dtype`, computed in fp32."""
    scales, biases = arrays.pop(f"{path}.scales"), arrays.pop(f"{path}.biases", None)
    if settings.mode == "affine":
        assert biases is not None
        scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
    dense = mx.dequantize(arrays[f"{path}.weight"], scales, biases, **asdict(settings), dtype=mx.float32)
    arrays[f"{path}.weight"] = dense.astype(dtype)


def quantize_like(model: nn.Module, layers: Mapping[str, LayerQuantization]) -> None:
    """Convert the given layers to quantized ones, ready to load a checkpoint's tensors. Nothing is computed."""

    def settings(path: str, module: nn.Module) -> bool | dict[str, Any]:
        return asdict(layers[path]) if path in layers else False

    if layers:
        nn.quantize(model, class_predicate=settings)


def quantized_layers(model: nn.Module) -> dict[str, LayerQuantization]:
    """The quantized layers of a model by path."""
    return {
        path: LayerQuantization(group_size=module.group_size, bits=module.bits, mode=module.mode)
        for path, module in model.named_modules()
        if isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding)
    }


def to_config(layers: Mapping[str, LayerQuantization]) -> dict[str, Any]:
    """`quantization` of `config.json` as mlx-lm writes it: the most common settings, then the layers that differ."""
    [(common, _)] = Counter(layers.values()).most_common(1)
    others = {path: asdict(own) for path, own in sorted(layers.items()) if own != common}
    return asdict(common) | others


def quantize_base(model: nn.Module, bits: int) -> list[str]:
    """Quantize the frozen base of an adapter (QLoRA, arXiv 2305.14314) before `add_adapters`; returns paths left dense.

    Quantizes what `mlx-suite quantize` and mlx-lm quantize, embedding and head included, so that the adapter fits the
    quantized checkpoint it will be used with. Layers already quantized are unchanged. Layers whose columns no group
    size divides stay dense.
    """
    assert not any("lora_a" in module for _, module in model.named_modules()), "quantize the base before adapting it"
    packed, left = {}, []
    for path, module in model.named_modules():
        if not hasattr(module, "to_quantized"):
            continue
        columns = module.weight.shape[-1]
        group = next((size for size in BASE_GROUPS if columns % size == 0), None)
        if group is None:
            left.append(path)
        else:
            packed[path] = LayerQuantization(group_size=group, bits=bits)
    quantize_like(model, packed)
    for path, module in model.named_modules():
        if path in packed:
            mx.eval(module.parameters())  # one at a time, to free each dense matrix before the next
    return left
