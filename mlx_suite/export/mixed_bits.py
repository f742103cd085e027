"""Mixed bits: the layers whose rounding changes the model's output most get more bits.

The sensitivity of a layer is mlx-lm's (`mlx_lm.dynamic_quant`): the first-order fall of the KL divergence from the
dense model, per million weights, if that layer had `high` instead of `low` bits. Layers are taken in that order while
they fit the target, so that the average is as close below it as whole layers allow.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from mlx_suite.checkpoints.weights import named_parameters
from mlx_suite.runtime.errors import UserError

LENGTH, ROWS = 128, 8
"""Shape of the text that sensitivities are measured on: gradients take several times as long as scores."""


@dataclass(frozen=True, kw_only=True)
class MixedBits:
    """Settings of mixed quantization."""

    target: float
    """Bits per weight of the whole model, scales, biases and dense weights included."""
    low: int
    high: int
    group_size: int


def choose_layers(model: nn.Module, rows: Sequence[Sequence[int]], mixed: MixedBits, itemsize: int) -> frozenset[str]:
    """Paths of the layers that get `mixed.high` bits.

    Args:
        model: The dense model; it is copied, and gradients of its weights are held in fp32.
        rows: Token ids, rows of equal length.
        itemsize: Bytes of a dense weight, a scale or a bias in the files.

    Raises UserError for a target that no choice reaches and for layers that the group size does not divide.
    """
    sizes = {path: module.weight.size for path, module in model.named_modules() if hasattr(module, "to_quantized")}
    total = sum(array.size for array in named_parameters(model).values())
    scales = 16 * itemsize / mixed.group_size
    dense = 8 * itemsize * (total - sum(sizes.values()))
    least, most = ((dense + sum(sizes.values()) * (bits + scales)) / total for bits in (mixed.low, mixed.high))
    if not least < mixed.target < most:
        raise UserError(
            f"--target-bpw is {mixed.target:g}, but {mixed.low} bits are {least:.2f} bits per weight with scales and "
            f"biases, and {mixed.high} bits {most:.2f}",
            where="--target-bpw",
            fix="choose a number between these",
        )
    ranks = _sensitivities(model, rows[:ROWS], mixed)
    return within_budget(sizes, ranks, (mixed.target - least) * total / (mixed.high - mixed.low))


def within_budget(sizes: Mapping[str, int], ranks: Mapping[str, float], weights: float) -> frozenset[str]:
    """The most sensitive layers, with at most `weights` weights together; a layer that does not fit is passed over."""
    chosen = set()
    for path in sorted(sizes, key=lambda path: (-ranks[path], path)):
        if ranks[path] > 0 and sizes[path] <= weights:
            chosen.add(path)
            weights -= sizes[path]
    return frozenset(chosen)


def _sensitivities(model: nn.Module, rows: Sequence[Sequence[int]], mixed: MixedBits) -> dict[str, float]:
    from mlx_lm.quant.dynamic_quant import estimate_sensitivities

    tokens = mx.array([list(row) for row in rows])
    with redirect_stderr(io.StringIO()):  # its progress bar
        found = estimate_sensitivities(
            *(model, tokens, mixed.low, mixed.group_size, mixed.high, mixed.group_size), batch_size=1
        )
    return dict(found)
