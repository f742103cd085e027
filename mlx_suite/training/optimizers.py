"""Optimizers and learning-rate schedules by name; a schedule is a function of the optimizer step."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mlx.core as mx
import mlx.optimizers as optim

Schedule = Callable[[mx.array], mx.array]


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Peak, length, warmup and final value of a schedule."""

    peak: float
    """Peak learning rate."""
    steps: int
    """Optimizer steps of the entire run."""
    warmup: int
    """Steps of linear warmup to the peak."""
    floor: float = 0.0
    """Learning rate reached after the last step."""
    decay: float = 0.2
    """Fraction of the steps after warmup that wsd spends on its decay."""


def cosine(config: ScheduleConfig) -> Schedule:
    """Cosine decay to the floor (arXiv 1608.03983, without restarts)."""
    return _schedule(config, lambda t: 0.5 * (1.0 + mx.cos(math.pi * t)))


def linear(config: ScheduleConfig) -> Schedule:
    """Linear decay to the floor."""
    return _schedule(config, lambda t: 1.0 - t)


def constant(config: ScheduleConfig) -> Schedule:
    """Constant at the peak; ignores the floor."""
    return _schedule(config, mx.ones_like)


def warmup_stable_decay(config: ScheduleConfig) -> Schedule:
    """Constant at the peak, then linear decay over the last part of the run (arXiv 2404.06395)."""
    return _schedule(config, lambda t: mx.minimum(1.0, (1.0 - t) / config.decay))


SCHEDULES: Mapping[str, Callable[[ScheduleConfig], Schedule]] = {
    "cosine": cosine,
    "linear": linear,
    "constant": constant,
    "wsd": warmup_stable_decay,
}


def _schedule(config: ScheduleConfig, height: Callable[[mx.array], mx.array]) -> Schedule:
    """Warmup, then floor + (peak − floor) · `height`(progress), with progress from 0 to 1."""

    def rate(step: mx.array) -> mx.array:
        warming_up = config.peak * (step + 1) / max(config.warmup, 1)
        progress = mx.clip((step - config.warmup) / max(config.steps - config.warmup, 1), 0.0, 1.0)
        decaying = config.floor + (config.peak - config.floor) * height(progress)
        return mx.where(step < config.warmup, warming_up, decaying)

    return rate


def adamw(rate: Schedule, decay: float) -> optim.Optimizer:
    """AdamW (arXiv 1711.05101) with β = 0.9, 0.95: two moments per parameter."""
    return optim.AdamW(rate, betas=[0.9, 0.95], weight_decay=decay, bias_correction=True)


def adafactor(rate: Schedule, decay: float) -> optim.Optimizer:
    """Adafactor (arXiv 1804.04235) with an external learning rate: a factored second moment."""
    return optim.Adafactor(rate, scale_parameter=False, relative_step=False, weight_decay=decay)


def lion(rate: Schedule, decay: float) -> optim.Optimizer:
    """Lion (arXiv 2302.06675): one moment per parameter; needs a third to a tenth of AdamW's learning rate."""
    return optim.Lion(rate, weight_decay=decay)


class ScaledMuon(optim.Muon):
    """Muon with AdamW's learning rates and decoupled weight decay (arXiv 2502.16982, section 2.2).

    The orthogonalized update of an (out, in) matrix is scaled by 0.2·√max(out, in), the root mean square of AdamW's
    updates. MLX's own Muon scales by √max(1, out / in), and adds the decay to the gradient before orthogonalization,
    where it may outweigh the gradient.
    """

    def __init__(self, rate: Schedule, decay: float) -> None:
        super().__init__(rate, weight_decay=0.0)
        self.decay = decay

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        rows, columns = parameter.shape
        step: mx.array = parameter - super().apply_single(gradient, parameter, state)
        scale = 0.2 * math.sqrt(max(rows, columns)) / math.sqrt(max(1.0, rows / columns))
        return parameter * (1 - self.learning_rate * self.decay) - scale * step


def muon(rate: Schedule, decay: float) -> optim.Optimizer:
    """Muon for the matrices inside the blocks; AdamW at the same rate for embeddings, head, norms and biases."""
    return optim.MultiOptimizer([ScaledMuon(rate, decay), adamw(rate, decay)], [_is_inner_matrix])


OPTIMIZERS: Mapping[str, Callable[[Schedule, float], optim.Optimizer]] = {
    "adamw": adamw,
    "adafactor": adafactor,
    "lion": lion,
    "muon": muon,
}


def _is_inner_matrix(path: str, array: mx.array) -> bool:
    return array.ndim == 2 and "embed" not in path and "lm_head" not in path
