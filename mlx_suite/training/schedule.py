"""Learning-rate schedules as functions of the optimizer step."""

import math
from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True, kw_only=True)
class WarmupCosine:
    """Linear warm-up from 0 to `peak`, then half a cosine down to `floor` at the last step."""

    peak: float
    steps: int
    """Optimizer steps of the whole run."""
    warmup: int
    floor: float = 0.0

    def __call__(self, step: mx.array) -> mx.array:
        rising = self.peak * (step + 1) / max(self.warmup, 1)
        progress = mx.clip((step - self.warmup) / max(self.steps - self.warmup, 1), 0.0, 1.0)
        falling = self.floor + (self.peak - self.floor) * 0.5 * (1.0 + mx.cos(math.pi * progress))
        return mx.where(step < self.warmup, rising, falling)
