"""Merge methods whose result is a linear combination of the models, with coefficients for each tensor.

The coefficients depend on the models' vectors (a tensor, flattened) only through their inner products. So a tensor is
read twice: once for the matrix of inner products (the Gram matrix), once for the combination. In a task-vector method
the vectors are the differences δ = θ − base, and the combination is added to the base.

    linear       Σ wᵢ θᵢ / Σ wᵢ                                            model soups, arXiv 2203.05482
    slerp        sin((1−t)Ω)/sin Ω · θ₁ + sin(tΩ)/sin Ω · θ₂               Shoemake 1985
    task         base + λ Σ wᵢ δᵢ                                          arXiv 2212.04089
    model-stock  base + t · mean δ,  t = N c / (1 + (N−1) c)               arXiv 2403.19522, c: mean pairwise cosine
    karcher      the Riemannian mean of the directions, times Σ wᵢ ‖θᵢ‖    Karcher 1977
    ema          θ₁, then (1−μ) · average + μ · θᵢ                         arXiv 2406.16768, section 3.1
    liti         base + η (θ − base)                                       arXiv 2109.01903; 2406.16768, section 3.3
    warp         base + η · slerp of the δᵢ                                arXiv 2406.16768, sections 3.2 and 3.3

Inner products are summed in double precision. Shapes: N models.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
"""Coefficients of the models (N,)."""
Gram = npt.NDArray[np.float64]
"""Inner products of the models' vectors (N, N)."""

PARALLEL = 0.9995
"""From this |cosine| on, SLERP is a linear interpolation: sin Ω is so small that the quotient loses its digits."""
ITERATIONS = 100
"""Maximum number of iterations of the Karcher mean; a few suffice within a hemisphere."""
CONVERGED = 1e-10
"""Length of the Karcher mean's tangent step, in radians, at which it ends."""


def linear(weights: Sequence[float], normalize: bool = True) -> Vector:
    """Weighted average; without `normalize`, the weighted sum."""
    given = np.array(weights, np.float64)
    return given / given.sum() if normalize else given


def slerp(gram: Gram, t: float) -> Vector:
    """Spherical interpolation from the first (t = 0) to the second of two vectors (t = 1).

    The vectors keep their lengths, only the angle is that of their directions: for vectors of equal length the result
    has that length, for others one in between or a little outside. Linear if they are nearly parallel or opposite
    (|cosine| > PARALLEL), or if one is zero.
    """
    return _interpolate(gram, np.array([1.0, 0.0]), np.array([0.0, 1.0]), t)


def task(weights: Sequence[float], scale: float) -> Vector:
    """λ · wᵢ for each task vector."""
    return scale * np.array(weights, np.float64)


def model_stock(gram: Gram) -> Vector:
    """t / N for each task vector, with t from their mean pairwise cosine.

    A cosine below 0 counts as 0, which gives the base: the formula assumes vectors that agree, and divides by zero at
    −1/(N−1). A zero task vector has cosine 0 with all others.
    """
    count = len(gram)
    lengths = np.sqrt(np.diag(gram))
    scale = np.where(lengths > 0, lengths, 1.0)
    cosines = gram / np.outer(scale, scale)
    pairs = cosines[np.triu_indices(count, 1)]
    cosine = min(max(float(pairs.mean()), 0.0), 1.0)
    ratio = count * cosine / (1 + (count - 1) * cosine)
    return np.full(count, ratio / count)


def karcher(gram: Gram, weights: Sequence[float]) -> Vector:
    """The point on the sphere with the least sum of squared angles to the directions, scaled by the mean length.

    Gradient descent with step 1: average the directions in the tangent space of the current point, follow the geodesic.
    All points stay in the span of the vectors, so the iteration needs only their inner products. A zero vector has no
    direction and counts only for the length. The mean of opposite vectors is not unique; the one found is nearest to
    the start, their weighted sum (or the first vector, if that is zero).
    """
    normalized = linear(weights)
    lengths = np.sqrt(np.diag(gram))
    present = lengths > 0
    if not present.any():
        return np.zeros(len(gram))
    scale = np.where(present, lengths, 1.0)
    directions = gram / np.outer(scale, scale)
    shares = np.where(present, normalized, 0.0)
    if not shares.sum():
        return np.zeros(len(gram))
    shares = shares / shares.sum()
    point = shares.copy()
    if point @ directions @ point < 1e-12:
        point = np.zeros(len(gram))
        point[int(np.argmax(present))] = 1.0
    point = _unit(point, directions)
    for _ in range(ITERATIONS):
        tangent = np.zeros(len(gram))
        for index, share in enumerate(shares):
            cosine = float(np.clip(directions[index] @ point, -1.0, 1.0))
            angle = math.acos(cosine)
            sine = math.sin(angle)
            if share and sine > 1e-12:
                tangent += share * angle / sine * (np.eye(len(gram))[index] - cosine * point)
        step = math.sqrt(max(float(tangent @ directions @ tangent), 0.0))
        if step < CONVERGED:
            break
        point = _unit(math.cos(step) * point + math.sin(step) / step * tangent, directions)
    mean_length = float(normalized @ lengths)
    coefficients: Vector = mean_length * point / scale
    return coefficients


def ema(count: int, rate: float) -> Vector:
    """Exponential moving average over checkpoints in order, starting with the first."""
    coefficients = np.zeros(count)
    coefficients[0] = 1.0
    for index in range(1, count):
        coefficients *= 1 - rate
        coefficients[index] = rate
    return coefficients


def liti(share: float) -> Vector:
    """η for the task vector of one model: linear interpolation towards the initialization."""
    return np.array([share])


def warp(gram: Gram, share: float, t: float | None = None) -> Vector:
    """η times the spherical interpolation of the task vectors.

    Two are interpolated with t (default 1/2). More are added one at a time, the m-th with t = 1/m, so each has an equal
    part in the angle; the result then depends a little on their order.
    """
    count = len(gram)
    merged = np.zeros(count)
    merged[0] = 1.0
    for index in range(1, count):
        other = np.zeros(count)
        other[index] = 1.0
        merged = _interpolate(gram, merged, other, t if count == 2 and t is not None else 1 / (index + 1))
    return share * merged


def _interpolate(gram: Gram, one: Vector, other: Vector, t: float) -> Vector:
    """SLERP of two combinations of the vectors."""
    lengths = math.sqrt(max(float(one @ gram @ one), 0.0)) * math.sqrt(max(float(other @ gram @ other), 0.0))
    cosine = float(one @ gram @ other) / lengths if lengths else 1.0
    if abs(cosine) > PARALLEL:
        return (1 - t) * one + t * other
    angle = math.acos(cosine)
    return (math.sin((1 - t) * angle) * one + math.sin(t * angle) * other) / math.sin(angle)


def _unit(point: Vector, directions: Any) -> Vector:
    """The combination with length 1."""
    scaled: Vector = point / math.sqrt(max(float(point @ directions @ point), 1e-300))
    return scaled
