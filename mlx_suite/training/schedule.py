"""Learning-rate schedules as functions of the optimizer step: a linear warm-up from 0, then a way down."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mlx.core as mx


@dataclass(frozen=True, kw_only=True)
class Course:
    """How high, how long, and where it ends."""

    peak: float
    """The largest learning rate."""
    steps: int
    """Optimizer steps of the whole run."""
    warmup: int
    """Steps until the peak."""
    floor: float = 0.0
    """The learning rate that is come to behind the last step."""


Schedule = Callable[[mx.array], mx.array]


def cosine(course: Course) -> Schedule:
    """Half a cosine down to the floor (arXiv 1608.03983, without restarts)."""
    return _course(course, lambda t: 0.5 * (1.0 + mx.cos(math.pi * t)))


def linear(course: Course) -> Schedule:
    """A straight line down to the floor."""
    return _course(course, lambda t: 1.0 - t)


def constant(course: Course) -> Schedule:
    """The peak to the end; the floor is not used."""
    return _course(course, mx.ones_like)


def warmup_stable_decay(course: Course) -> Schedule:
    """The peak for most of the run, then a straight line down over its last fifth (arXiv 2404.06395)."""
    return _course(course, lambda t: mx.minimum(1.0, (1.0 - t) / 0.2))


SCHEDULES: Mapping[str, Callable[[Course], Schedule]] = {
    "cosine": cosine,
    "linear": linear,
    "constant": constant,
    "wsd": warmup_stable_decay,
}


def _course(course: Course, height: Callable[[mx.array], mx.array]) -> Schedule:
    """Warm-up, then `height` of the progress in 0 … 1, between floor and peak."""

    def rate(step: mx.array) -> mx.array:
        rising = course.peak * (step + 1) / max(course.warmup, 1)
        progress = mx.clip((step - course.warmup) / max(course.steps - course.warmup, 1), 0.0, 1.0)
        falling = course.floor + (course.peak - course.floor) * height(progress)
        return mx.where(step < course.warmup, rising, falling)

    return rate
