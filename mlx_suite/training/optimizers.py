"""The optimizers of MLX under one name each."""

from collections.abc import Callable, Mapping

import mlx.core as mx
import mlx.optimizers as optim

from mlx_suite.training.schedule import Schedule


def adamw(rate: Schedule, decay: float) -> optim.Optimizer:
    """AdamW (arXiv 1711.05101) with β = 0.9, 0.95: two moments a parameter."""
    return optim.AdamW(rate, betas=[0.9, 0.95], weight_decay=decay, bias_correction=True)


def adafactor(rate: Schedule, decay: float) -> optim.Optimizer:
    """Adafactor (arXiv 1804.04235) at a given rate: row and column sums in place of the second moment."""
    return optim.Adafactor(rate, scale_parameter=False, relative_step=False, weight_decay=decay)


def lion(rate: Schedule, decay: float) -> optim.Optimizer:
    """Lion (arXiv 2302.06675): one moment a parameter; wants a third to a tenth of AdamW's rate."""
    return optim.Lion(rate, weight_decay=decay)


def muon(rate: Schedule, decay: float) -> optim.Optimizer:
    """Muon for the matrices inside the blocks; AdamW at the same rate for embeddings, head, norms and biases.

    The orthogonal update of an (out, in) matrix is scaled by MLX to √(max(1, out / in)).
    """
    return optim.MultiOptimizer([optim.Muon(rate, weight_decay=decay), adamw(rate, decay)], [_is_inner_matrix])


OPTIMIZERS: Mapping[str, Callable[[Schedule, float], optim.Optimizer]] = {
    "adamw": adamw,
    "adafactor": adafactor,
    "lion": lion,
    "muon": muon,
}


def _is_inner_matrix(path: str, array: mx.array) -> bool:
    return array.ndim == 2 and "embed" not in path and "lm_head" not in path
