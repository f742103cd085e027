"""Length-controlled win rate: the win rate if both sides wrote responses of equal length.

After AlpacaEval's length control (Dubois et al., arXiv 2404.04475): a logistic regression of the verdicts

    log odds(A wins) = α + β · tanh(Δ / s),   Δ = characters of A − characters of B,   s² = mean of Δ²

is fitted, and the controlled win rate is its value at Δ = 0, σ(α). AlpacaEval divides by the standard deviation; s
keeps equal lengths at 0. Its third term, instruction difficulty, needs verdicts on many models and is omitted. Weak
Gaussian priors on α and β keep β finite for a judge that decides by length alone. Swapping the sides turns a win rate w
into exactly 1 − w.

Shapes: R resamples, N pairs.
"""

import numpy as np
import numpy.typing as npt

from mlx_suite.data.statistics import Interval, Numbers, bootstrap

PRIOR, SLOPE_PRIOR = 0.5, 0.02
"""Precisions of the priors on α and β: standard deviations of 1.4 and 7 log odds. The first shrinks ten wins of ten to
0.89 and hardly affects hundreds of pairs; the second lets length explain nearly everything if the data say so."""
STEPS = 50
"""Maximum Newton steps; a dozen usually suffice."""


def controlled_win_rate(wins: npt.ArrayLike, difference: npt.ArrayLike) -> float:
    """Length-controlled win rate of A, σ(α).

    Args:
        wins: (N,) 1 where A won, 0 where B did, ½ for a tie.
        difference: (N,) characters of A's response minus characters of B's.
    """
    y, x = _inputs(wins, difference)
    return float(_win_rates(y[None], x[None])[0])


def controlled_interval(wins: npt.ArrayLike, difference: npt.ArrayLike, seed: int) -> Interval | None:
    """95 % bootstrap interval over pairs."""
    y, x = _inputs(wins, difference)
    return bootstrap(lambda rows: _win_rates(y[rows], x[rows]), len(y), seed)


def _inputs(wins: npt.ArrayLike, difference: npt.ArrayLike) -> tuple[Numbers, Numbers]:
    y, delta = np.asarray(wins, dtype=np.float64), np.asarray(difference, dtype=np.float64)
    # Scale around zero, not around the mean: equal lengths must stay at 0.
    spread = np.sqrt((delta * delta).mean()) if len(delta) else 0.0
    return y, np.tanh(delta / spread) if spread > 0 else delta


def _win_rates(y: Numbers, x: Numbers) -> Numbers:
    """(R, N), (R, N) → (R,): Newton's method on the penalised log-likelihood, which is concave."""
    alpha, beta = np.zeros(len(y)), np.zeros(len(y))
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-(alpha[:, None] + beta[:, None] * x)))
        weight = p * (1.0 - p)
        gradient_a = (y - p).sum(axis=1) - PRIOR * alpha
        gradient_b = ((y - p) * x).sum(axis=1) - SLOPE_PRIOR * beta
        aa = weight.sum(axis=1) + PRIOR
        ab = (weight * x).sum(axis=1)
        bb = (weight * x * x).sum(axis=1) + SLOPE_PRIOR
        determinant = aa * bb - ab * ab
        step_a = (bb * gradient_a - ab * gradient_b) / determinant
        step_b = (aa * gradient_b - ab * gradient_a) / determinant
        # A full step can overshoot where the data are separable.
        scale = np.minimum(1.0, 4.0 / np.maximum(np.hypot(step_a, step_b), 1e-12))
        alpha, beta = alpha + scale * step_a, beta + scale * step_b
        if max(np.abs(step_a).max(), np.abs(step_b).max()) < 1e-9:
            break
    rates: Numbers = 1.0 / (1.0 + np.exp(-alpha))
    return rates
