"""Quantization of a checkpoint, with the same result as `mlx_lm.convert -q`, and what it loses on text.

The check reads back what was written. On a CPU it expands the quantized layers to dense fp32 ones, which is the same
function: MLX's quantized products are slow there. One model is in memory at a time.
"""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.checkpoints.config_file import read_config
from mlx_suite.checkpoints.load import load_model, stored_dtype
from mlx_suite.checkpoints.quantization import quantized_layers
from mlx_suite.checkpoints.safetensors_header import read_headers
from mlx_suite.checkpoints.save import refuse_other_folder, save_model
from mlx_suite.engine import context_length
from mlx_suite.engine.token_scores import TokenScores, score_windows
from mlx_suite.export.known_text import KnownText, file_text, own_text
from mlx_suite.export.mixed_bits import LENGTH, MixedBits, choose_layers
from mlx_suite.export.text_loss import TextLoss, text_loss
from mlx_suite.runtime.errors import UserError
from mlx_suite.text import load_tokenizer

BITS = (2, 3, 4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)
HIGH_BITS = 6
"""Bits of the most sensitive layers of a mixed model."""
WINDOW_BATCH = 1024
"""Positions per forward pass of the check."""


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
    high: tuple[str, ...]
    """Layers with more bits than the others."""
    left: tuple[str, ...]
    """Layers left dense, whose columns the group size does not divide."""
    loss: TextLoss
    source: str
    """The text of `loss`."""
    seconds: dict[str, float]
    """Duration of each part: measuring before, choosing bits, quantizing and writing, measuring after."""
    peak_bytes: int
    """Most memory that arrays took."""


def quantize_checkpoint(
    folder: Path,
    out: Path,
    *,
    bits: int = 4,
    group_size: int = 64,
    target_bpw: float | None = None,
    high_bits: int = HIGH_BITS,
    calibration: Path | None = None,
) -> Quantized:
    """Quantize every linear layer and embedding of a checkpoint and write it to `out`, with the tokenizer.

    Args:
        bits: Bits per weight: 2, 3, 4, 5, 6 or 8.
        group_size: Columns that share a scale and a bias: 32, 64 or 128.
        target_bpw: Bits per weight on average; the layers that matter most get `high_bits`. None: all get `bits`.
        calibration: Text file to measure on. None: what the model itself writes.

    Raises UserError for other values, a checkpoint that is already quantized, a model without a layer that can be
    quantized, and disk errors.
    """
    check(bits, group_size, target_bpw, high_bits)
    refuse_other_folder(out)
    config = read_config(folder)
    before = read_headers(folder)
    if "quantization" in config or "quantization_config" in config or any(name.endswith(".scales") for name in before):
        raise UserError(
            "The model is already quantized; quantizing it again would round it twice",
            where=str(folder),
            fix="use the model before quantization",
        )
    tokenizer = load_tokenizer(folder)
    mx.reset_peak_memory()
    clock = _Clock()
    dense = load_model(folder)  # in the precision that is fast on this device
    left = _left_dense(dense, group_size, mixed=target_bpw is not None)
    if calibration is None:
        text = own_text(dense, tokenizer)
    else:
        text = file_text(calibration, tokenizer, context_length(dense))
    scores = score_windows(dense, text.windows, batch=WINDOW_BATCH)
    clock.lap("before")
    stored = stored_dtype(folder) or mx.float32
    high: frozenset[str] = frozenset()
    if target_bpw is not None:
        mixed = MixedBits(target=target_bpw, low=bits, high=high_bits, group_size=group_size)
        high = choose_layers(dense, text.rows(LENGTH), mixed, stored.size)
        clock.lap("choosing")
    del dense
    mx.clear_cache()
    packed = _write(folder, out, stored, config, bits, group_size, high_bits, high)
    mx.clear_cache()
    clock.lap("quantizing")
    loss = text_loss(scores, _scores_of(out, text))
    clock.lap("after")
    headers = read_headers(out).values()
    after = sum(header.num_bytes for header in headers)
    return Quantized(
        bytes_before=sum(header.num_bytes for header in before.values()),
        bytes_after=after,
        bits_per_weight=8 * after / sum(header.size for header in before.values()),
        packed=packed,
        high=tuple(sorted(high)),
        left=left,
        loss=loss,
        source=text.source,
        seconds=clock.seconds,
        peak_bytes=mx.get_peak_memory(),
    )


def check(bits: int, group_size: int, target_bpw: float | None = None, high_bits: int = HIGH_BITS) -> None:
    """Raise UserError that lists every invalid value."""
    problems = [
        f"--{name} is {value}: expected one of {', '.join(map(str, choices))}"
        for name, value, choices in (
            ("bits", bits, BITS),
            ("group-size", group_size, GROUP_SIZES),
            ("high-bits", high_bits, BITS),
        )
        if value not in choices
    ]
    if target_bpw is not None and high_bits <= bits:
        problems.append(f"--high-bits is {high_bits}: expected more than --bits, which is {bits}")
    if problems:
        raise UserError("The quantization settings are invalid", details=problems, fix="correct these values")


class _Clock:
    """Seconds of each part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = perf_counter()

    def lap(self, name: str) -> None:
        now = perf_counter()
        self.seconds[name], self._last = now - self._last, now


def _left_dense(model: nn.Module, group_size: int, *, mixed: bool) -> tuple[str, ...]:
    """Layers that the group size does not divide. Raises UserError if these are all, or any with mixed bits."""
    layers = {path: layer for path, layer in model.named_modules() if hasattr(layer, "to_quantized")}
    left = tuple(path for path, layer in layers.items() if layer.weight.shape[-1] % group_size)
    what = None
    if len(left) == len(layers):
        what = f"No layer can be quantized: groups of {group_size} columns divide none of them"
    elif left and mixed:
        what = f"Mixed bits need groups that divide every layer; groups of {group_size} do not divide {left[0]}"
    if what is not None:
        fix = "choose a smaller group" if group_size > min(GROUP_SIZES) else "keep the model as it is"
        raise UserError(what, where="--group-size", fix=fix)
    return left


def _write(
    folder: Path,
    out: Path,
    dtype: mx.Dtype,
    config: dict[str, Any],
    bits: int,
    group_size: int,
    high_bits: int,
    high: frozenset[str],
) -> int:
    """Quantize and save; returns the number of quantized layers."""
    from mlx_lm.utils import quantize_model

    def settings(path: str, layer: nn.Module) -> dict[str, int]:
        return {"group_size": group_size, "bits": high_bits if path in high else bits}

    # In the dtype of the files, even on a CPU, so that scales and biases equal mlx-lm's.
    model = load_model(folder, dtype=dtype, dequantize=False)
    with redirect_stdout(io.StringIO()):  # it prints the bits per weight
        quantize_model(model, {}, group_size, bits, quant_predicate=settings if high else None)
    save_model(out, model, config, tokenizer_from=folder)
    return len(quantized_layers(model))


def _scores_of(folder: Path, text: KnownText) -> list[TokenScores]:
    return score_windows(load_model(folder), text.windows, batch=WINDOW_BATCH)
