"""Quantization of a checkpoint, with the same result as `mlx_lm.convert -q`."""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.checkpoints.load import load_model, stored_dtype
from mlx_suite.checkpoints.quantization import quantized_layers
from mlx_suite.checkpoints.safetensors_header import read_headers
from mlx_suite.checkpoints.save import refuse_other_folder, save_model
from mlx_suite.export.probe import Distance, distance, logits_of, vocabulary_of
from mlx_suite.runtime.errors import UserError

BITS = (2, 3, 4, 6, 8)
GROUP_SIZES = (32, 64, 128)


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """Result of quantizing a checkpoint."""

    bytes_before: int
    """Size of all weights in the files."""
    bytes_after: int
    bits_per_weight: float
    """Bits per weight, scales and biases included."""
    packed: int
    """Number of quantized layers."""
    left: tuple[str, ...]
    """Layers left dense, whose columns the group size does not divide."""
    error: Distance
    """Distance between quantized and dense model. `mlx-suite perplexity` measures the effect on text."""


def quantize_checkpoint(folder: Path, out: Path, *, bits: int = 4, group_size: int = 64) -> Quantized:
    """Quantize every linear layer and embedding of a checkpoint and write it to `out`, with the tokenizer.

    Args:
        bits: Bits per weight: 2, 3, 4, 6 or 8.
        group_size: Columns that share a scale and a bias: 32, 64 or 128.

    Raises UserError for other values, a checkpoint that is already quantized, a model without a layer that can be
    quantized, and disk errors.
    """
    check(bits, group_size)
    refuse_other_folder(out)
    config = read_config(folder)
    packed_before = "quantization" in config or "quantization_config" in config
    before = read_headers(folder)
    if packed_before or any(name.endswith(".scales") for name in before):
        raise UserError(
            "The model is already quantized; quantizing it again would round it twice",
            where=str(folder),
            fix="use the model before quantization",
        )
    # In the dtype of the files, even on a CPU, so that scales and biases equal mlx-lm's.
    model = load_model(folder, dtype=stored_dtype(folder) or mx.float32, dequantize=False)
    vocabulary = vocabulary_of(config)
    dense = logits_of(model, vocabulary)
    left = _divides_nothing(model, group_size)
    weights = sum(header.size for header in before.values())
    _quantize(model, bits, group_size)
    layers = quantized_layers(model)
    if not layers:
        raise UserError(
            f"No layer can be quantized: groups of {group_size} columns divide none of them",
            where="--group-size",
            fix="choose a smaller group" if group_size > min(GROUP_SIZES) else "keep the model as it is",
        )
    error = distance(dense, logits_of(model, vocabulary))
    save_model(out, model, config, tokenizer_from=folder)
    after = sum(header.num_bytes for header in read_headers(out).values())
    return Quantized(
        bytes_before=sum(header.num_bytes for header in before.values()),
        bytes_after=after,
        bits_per_weight=8 * after / weights,
        packed=len(layers),
        left=left,
        error=error,
    )


def check(bits: int, group_size: int) -> None:
    """Raise UserError that lists every invalid value."""
    problems = [
        f"--{name} is {value}: expected one of {', '.join(map(str, choices))}"
        for name, value, choices in (("bits", bits, BITS), ("group-size", group_size, GROUP_SIZES))
        if value not in choices
    ]
    if problems:
        raise UserError("The quantization settings are invalid", details=problems, fix="correct these values")


def _quantize(model: nn.Module, bits: int, group_size: int) -> None:
    from mlx_lm.utils import quantize_model

    with redirect_stdout(io.StringIO()):  # it prints the bits per weight
        quantize_model(model, {}, group_size, bits)


def _divides_nothing(model: nn.Module, group_size: int) -> tuple[str, ...]:
    return tuple(
        path
        for path, module in model.named_modules()
        if hasattr(module, "to_quantized") and module.weight.shape[-1] % group_size
    )
