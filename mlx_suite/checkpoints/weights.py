"""Load the weights of a Hugging Face folder into a model, after checking all of them.

The checks need only the files' headers, so no weights are read if any tensor does not match.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import cycle
from math import prod
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_suite.checkpoints.other_formats import format_name, unread_format
from mlx_suite.checkpoints.quantization import (
    LayerQuantization,
    Shape,
    expand,
    find_quantized,
    quantize_like,
)
from mlx_suite.checkpoints.safetensors_header import DOWNLOAD_AGAIN, TensorHeader, read_headers
from mlx_suite.modeling.config import GEMMA_TYPES
from mlx_suite.runtime.device import device, streams, weights_dtype
from mlx_suite.runtime.errors import UserError, shortened
from mlx_suite.runtime.memory import human_bytes

FLOATS: Mapping[str, mx.Dtype] = {"BF16": mx.bfloat16, "F16": mx.float16, "F32": mx.float32}
"""Dtypes of dense weights by their safetensors name."""

DTYPES: Mapping[str, mx.Dtype] = {"bfloat16": mx.bfloat16, "float16": mx.float16, "float32": mx.float32}

CHUNK_BYTES = 1 << 28
"""Weights are loaded in chunks of about this size, so that a cast does not need memory for all of them twice."""


def named_parameters(model: nn.Module) -> dict[str, mx.array]:
    """All parameters by their name in a checkpoint."""
    return dict(tree_flatten(model.parameters()))


def parameter_count(tree: Any) -> int:
    """Number of elements in a tree of arrays such as `model.parameters()`; a tied head counts once."""
    return sum(array.size for array in dict(tree_flatten(tree)).values())


def parameter_shapes(model: nn.Module) -> dict[str, Shape]:
    """The shape of every parameter by name. Computes nothing, so it is free for a freshly built model."""
    return {name: array.shape for name, array in named_parameters(model).items()}


def load_weights(
    folder: Path,
    model: nn.Module,
    *,
    dtype: mx.Dtype | str | None = None,
    dequantize: bool | None = None,
    lazy: bool = False,
) -> None:
    """Load the weights of `folder` into `model`, which was built from the folder's `config.json`.

    Args:
        dtype: Dtype of dense weights and quantization scales: float32, bfloat16 or float16. None: float32 on a CPU,
            else the checkpoint's own, except bfloat16 for a float16 Gemma, whose activations overflow float16.
        dequantize: Whether to dequantize quantized layers. None: yes on a CPU, else no.
        lazy: Leave the weights on disk until they are used.

    Raises UserError that lists every missing, truncated or unreadable file, or else every tensor that is missing,
    unexpected, or of the wrong shape or dtype; and if the weights do not fit into memory.
    """
    tensors: dict[str, TensorHeader] = _sanitize(model, read_headers(folder))
    dense = parameter_shapes(model)
    layers, problems = find_quantized(tensors, dense)
    expected = quantized_shapes(dense, layers)
    problems += [f"{header.name} holds {header.dtype}" for header in _of_other_kinds(tensors, layers)]
    problems += differences(expected, {name: header.shape for name, header in tensors.items()})
    if problems and (packing := format_name({}, tensors)):
        raise unread_format(packing, folder)
    if problems:
        raise UserError(
            what="the weights do not fit the model that config.json describes",
            details=shortened(problems),
            where=str(folder),
            fix="take config.json and the weights from the same checkpoint",
        )

    policy = weights_dtype(device().kind, _usual_dtype(tensors.values()), quantized=bool(layers))
    dequantize = policy.dequantize if dequantize is None else dequantize
    kept = {} if dequantize else layers
    target = as_dtype(dtype) if dtype is not None else DTYPES[policy.dtype]
    if dtype is None and target == mx.float16 and _overflows_fp16(model):
        target = mx.bfloat16
    if not lazy:
        _check_memory(folder, dense, kept, tensors, target)

    arrays = _read(folder, tensors)
    quantize_like(model, kept)
    for path in layers.keys() - kept.keys():
        expand(arrays, path, layers[path], target)
    # On a CPU, writing the pages of new memory takes most of the time, which several cores share.
    on_streams = zip(arrays.items(), cycle(streams()), strict=False)
    arrays = {name: cast(array, target, stream) for (name, array), stream in on_streams}
    model.load_weights(list(arrays.items()))
    model.eval()
    if not lazy:
        evaluate(arrays.values())
        refuse_not_finite(arrays, folder)


def refuse_not_finite(arrays: Mapping[str, mx.array], where: Path) -> None:
    """Raise UserError that names every tensor with NaN or inf: a run that diverged, or a conversion, wrote them."""
    floating = ((name, array) for name, array in arrays.items() if mx.issubdtype(array.dtype, mx.floating))
    sums = {name: _sum(array, stream) for (name, array), stream in zip(floating, cycle(streams()), strict=False)}
    mx.eval(list(sums.values()))
    # A sum may also overflow, so a suspect is looked at element by element.
    suspects = [name for name, total in sums.items() if not mx.isfinite(total).item()]
    damaged = [name for name in suspects if not mx.isfinite(arrays[name]).all().item()]
    if damaged:
        raise UserError(
            what=f"the weights contain NaN or inf in {len(damaged)} of {len(arrays)} tensors",
            details=shortened(damaged),
            where=str(where),
            fix="use another copy of the model, or the checkpoint from before training diverged",
        )


def _sum(array: mx.array, stream: Any = None) -> mx.array:
    """The sum of an array. A product with ones gives it at the speed of memory, twice as fast as MLX sums on a CPU."""
    if array.ndim > 1 and array.dtype == mx.float32:
        array = mx.matmul(array, mx.ones(array.shape[-1]), stream=stream)
    return array.sum(stream=stream)


def evaluate(arrays: Iterable[mx.array]) -> None:
    """Evaluate arrays chunk by chunk."""
    portion: list[mx.array] = []
    size = 0
    for array in arrays:
        portion.append(array)
        size += array.nbytes
        if size >= CHUNK_BYTES:
            mx.eval(portion)
            portion, size = [], 0
    mx.eval(portion)


def cast(array: mx.array, dtype: mx.Dtype, stream: Any = None) -> mx.array:
    """Cast floating-point arrays to `dtype`; packed weights and 8-bit scales stay as they are."""
    return array.astype(dtype, stream=stream) if mx.issubdtype(array.dtype, mx.floating) else array


def as_dtype(dtype: mx.Dtype | str) -> mx.Dtype:
    """The MLX dtype with the name used in config.json or a flag (`torch.bfloat16` too).

    Raises UserError unless it is float32, bfloat16 or float16.
    """
    name = dtype if isinstance(dtype, str) else str(dtype)  # "mlx.core.bfloat16"
    found = DTYPES.get(name.rpartition(".")[2])
    if found is None:
        raise UserError(
            what=f"weights cannot be loaded as {dtype}", where="dtype", fix=f"choose one of {', '.join(DTYPES)}"
        )
    return found


def dtype_name(dtype: mx.Dtype) -> str:
    """`bfloat16` for `mx.bfloat16`."""
    return next(name for name, known in DTYPES.items() if known == dtype)


def quantized_shapes(dense: Mapping[str, Shape], layers: Mapping[str, LayerQuantization]) -> dict[str, Shape]:
    """The shape of every parameter once `layers` are quantized."""
    shapes: dict[str, Shape] = {}
    for name, shape in dense.items():
        path, _, kind = name.rpartition(".")
        own = layers.get(path) if kind == "weight" else None
        shapes |= own.shapes(path, shape) if own else {name: shape}
    return shapes


def differences(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> list[str]:
    """One line per tensor that is missing, of another shape, or not part of the model."""
    problems = [f"{name} {shape} is missing" for name, shape in expected.items() if name not in found]
    problems += [
        f"{name} is {found[name]}, not {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    problems += [f"{name} {shape} is not part of the model" for name, shape in found.items() if name not in expected]
    return problems


def _sanitize(model: nn.Module, tensors: dict[str, Any]) -> dict[str, Any]:
    return model.sanitize(tensors) if hasattr(model, "sanitize") else tensors


def _of_other_kinds(tensors: Mapping[str, TensorHeader], layers: Mapping[str, LayerQuantization]) -> list[TensorHeader]:
    """Tensors that are neither of a known float dtype nor part of a quantized layer."""
    return [
        header
        for name, header in tensors.items()
        if header.dtype not in FLOATS and name.rpartition(".")[0] not in layers
    ]


def _usual_dtype(tensors: Iterable[TensorHeader]) -> str:
    """The most common floating-point dtype by elements, which is that of the activations."""
    sizes: Counter[str] = Counter()
    for header in tensors:
        if header.dtype in FLOATS:
            sizes[header.dtype] += header.size
    return dtype_name(FLOATS[sizes.most_common(1)[0][0]]) if sizes else "float32"


def _overflows_fp16(model: nn.Module) -> bool:
    """Whether fp16 would overflow: Gemma's residual stream exceeds 65504 (mlx-examples#876: only <pad> tokens)."""
    config = getattr(model, "config", None)
    return getattr(config, "model_type", None) in GEMMA_TYPES


def _check_memory(
    folder: Path,
    dense: Mapping[str, Shape],
    kept: Mapping[str, LayerQuantization],
    tensors: Mapping[str, TensorHeader],
    dtype: mx.Dtype,
) -> None:
    """Raise UserError if the weights would make the machine swap or run out of memory."""
    needed = 0
    for name, shape in dense.items():
        path = name.rpartition(".")[0]
        if path in kept:
            parts = (tensors.get(f"{path}.{kind}") for kind in ("weight", "scales", "biases"))
            needed += sum(part.num_bytes for part in parts if part is not None)
        else:
            needed += prod(shape) * dtype.size
    machine = device()
    if needed > machine.working_set_bytes:
        raise UserError(
            what=f"the weights take {human_bytes(needed)} as {dtype_name(dtype)}; "
            f"this machine ({machine.name}) has {human_bytes(machine.working_set_bytes)}",
            where=str(folder),
            fix="choose a smaller model, or a narrower dtype (bfloat16: half of float32, slower on a CPU)",
        )


def load_file(file: Path) -> dict[str, mx.array]:
    """The tensors of a safetensors file, read from disk when they are used. Raises UserError if MLX cannot read it."""
    try:
        stored: Any = mx.load(str(file))
    except RuntimeError as error:
        what = str(error).removeprefix("[load_safetensors] ").splitlines()[0]
        raise UserError(f"the weights cannot be read: {what}", where=str(file), fix=DOWNLOAD_AGAIN) from error
    arrays: dict[str, mx.array] = stored
    return arrays


def _read(folder: Path, tensors: Mapping[str, TensorHeader]) -> dict[str, mx.array]:
    """The given tensors, not yet read from disk."""
    arrays: dict[str, mx.array] = {}
    for file in sorted({header.file for header in tensors.values()}):
        stored = load_file(file)
        # A header keeps the name in the file, which a model may know by another.
        arrays |= {name: stored[header.name] for name, header in tensors.items() if header.file == file}
    return arrays
