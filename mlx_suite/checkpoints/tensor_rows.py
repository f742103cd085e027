"""Rows of a checkpoint's weights, read one block at a time: a tensor of any size in little memory.

MLX reads a tensor whole even if only some of its rows are used, so blocks are read from the file by position.
Quantized matrices are packed along their rows, so a block of rows is dequantized alone.

Shapes: R rows, C columns. A vector is a matrix of one column; the first axis of a tensor of more axes counts as rows.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_suite.checkpoints.load import REWARD_SUFFIX, build_model, is_ours
from mlx_suite.checkpoints.other_formats import format_name, unread_format
from mlx_suite.checkpoints.quantization import LayerQuantization, Shape, find_quantized
from mlx_suite.checkpoints.safetensors_header import TensorHeader, read_headers
from mlx_suite.checkpoints.stored_weights import is_tied
from mlx_suite.checkpoints.weights import FLOATS, differences, parameter_shapes, quantized_shapes
from mlx_suite.modeling.config import ModelConfig
from mlx_suite.runtime.errors import UserError, shortened

_NUMPY: Mapping[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "U32": np.uint32, "U8": np.uint8}


@dataclass(frozen=True, kw_only=True)
class StoredWeight:
    """A weight in a checkpoint's file, dense or quantized."""

    shape: Shape
    """Shape of the dense weight."""
    header: TensorHeader
    scales: TensorHeader | None = None
    biases: TensorHeader | None = None
    quantization: LayerQuantization | None = None

    @property
    def row_count(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def columns(self) -> int:
        return prod(self.shape[1:])

    def rows(self, start: int, stop: int) -> mx.array:
        """Rows `start` to `stop`, (stop − start, C), dequantized, in fp32. Only their bytes are read."""
        weight = _rows(self.header, start, stop)
        if self.quantization is None:
            return weight.astype(mx.float32)
        assert self.scales is not None
        scales = _rows(self.scales, start, stop)
        biases = None if self.biases is None else _rows(self.biases, start, stop).astype(mx.float32)
        if self.quantization.mode == "affine":
            scales = scales.astype(mx.float32)
        return mx.dequantize(weight, scales, biases, **asdict(self.quantization), dtype=mx.float32)


def stored_weights(folder: Path, config: Mapping[str, Any]) -> dict[str, StoredWeight]:
    """Every weight of a checkpoint by its name in the model, from the files' headers; a tied head is omitted.

    Of an architecture that is not ours, the names are those in the files, and the weights must be dense.

    Raises UserError for missing, truncated or unreadable files, for tensors that do not match the config, and for
    weights in a format that cannot be read.
    """
    headers = read_headers(folder)
    if not is_ours(config) or _is_reward_model(config):
        return _as_in_the_files(folder, config, headers)
    model = build_model(ModelConfig.from_dict(config, where=str(folder / "config.json")))
    headers = model.sanitize(headers)
    dense = parameter_shapes(model)
    layers, problems = find_quantized(headers, dense)
    found = {name: header.shape for name, header in headers.items()}
    problems += differences(quantized_shapes(dense, layers), found)
    parts = {f"{path}.{kind}" for path in layers for kind in ("weight", "scales", "biases")}
    problems += [
        f"{name} holds {each.dtype}" for name, each in headers.items() if each.dtype not in FLOATS and name not in parts
    ]
    if problems:
        if packing := format_name(config, headers):
            raise unread_format(packing, folder)
        raise UserError(
            "the weights do not fit the model that config.json describes",
            details=shortened(problems),
            where=str(folder),
            fix="take config.json and the weights from the same checkpoint",
        )
    weights = {}
    for name, shape in dense.items():
        path, _, kind = name.rpartition(".")
        own = layers.get(path) if kind == "weight" else None
        weights[name] = StoredWeight(
            shape=shape,
            header=headers[name],
            scales=headers[f"{path}.scales"] if own else None,
            biases=headers.get(f"{path}.biases") if own else None,
            quantization=own,
        )
    return weights


def _is_reward_model(config: Mapping[str, Any]) -> bool:
    return any(str(name).endswith(REWARD_SUFFIX) for name in config.get("architectures") or ())


def _as_in_the_files(
    folder: Path, config: Mapping[str, Any], headers: Mapping[str, TensorHeader]
) -> dict[str, StoredWeight]:
    """The weights of any architecture, dense."""
    tied = is_tied(config)
    kept = {name: header for name, header in headers.items() if not (tied and name.startswith("lm_head."))}
    strange = [f"{name} holds {header.dtype}" for name, header in kept.items() if header.dtype not in FLOATS]
    if strange:
        raise UserError(
            f"the weights of this {config['model_type']} model are not all dense",
            details=shortened(strange),
            where=str(folder),
            fix="use the model before quantization, in float32, bfloat16 or float16",
        )
    return {name: StoredWeight(shape=header.shape, header=header) for name, header in kept.items()}


def _rows(header: TensorHeader, start: int, stop: int) -> mx.array:
    """Rows of a tensor as stored: (stop − start, columns)."""
    kind = np.dtype(_NUMPY[header.dtype])
    columns = prod(header.shape[1:])
    values = np.fromfile(
        header.file, kind, (stop - start) * columns, offset=header.start + start * columns * kind.itemsize
    )
    array = mx.array(values.reshape(stop - start, columns))
    return array.view(mx.bfloat16) if header.dtype == "BF16" else array
